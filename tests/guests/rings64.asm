; Rings of long mode: call gates of 16 bytes, RETF and IRETQ outward with the null stack segment of an inner ring, the
; interrupt stack table under nested faults, a double fault on a stack of its own, single steps over SYSCALL and SYSRET.
; Source: Intel SDM 2, CALL, RET, IRET, SYSCALL; 3A, 5.8.3 to 5.8.5, 6.14.

%include "report.inc"
%include "protected.inc"
%include "long.inc"

USER64  equ SPARE2 | 3
USER_SS equ SPARE | 3
USER_STACK equ 0x7000
RSP0    equ 0x6C00

; GATE64 selector, offset, access byte: the 16-byte call gate at GATE. Destroys RAX.
%macro GATE64 3
        mov     eax, (%1) << 16
        mov     ax, %2
        mov     [gate_descriptor], eax
        mov     dword [gate_descriptor + 4], (%3) << 8
        mov     qword [gate_descriptor + 8], 0
%endmacro
; TO_USER label: by RETFQ.
%macro TO_USER 1
        push    qword USER_SS
        push    qword USER_STACK
        push    qword USER64
        push    qword %1
        o64 retf
%endmacro
%macro RING_0 0
        xor     eax, eax
        mov     ss, ax
        mov     esp, 0x7C00
%endmacro
; USER_FAULTS vector, error code, instruction: in ring 3.
%macro USER_FAULTS 3+
        mov     qword [resume64], %%after
        mov     [resume_rsp], rsp
        mov     qword [fault64], -1
        TO_USER %%at
%%at:   %3
        jmp     $
%%after:
        CHECK   qword [fault64], e, %1
        CHECK   qword [fault64 + 8], e, %2
        CHECK   qword [fault64 + 16], e, %%at
        CHECK   word [fault64 + 24], e, USER64
        CHECK   qword [fault64 + 40], e, USER_STACK
        mov     qword [resume64], 0
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        ENTER_LONG_MODE
        mov     rax, [gdt + (USER_DATA & ~7)]
        mov     [spare_descriptor], rax
        mov     rax, 0x00AFFB000000FFFF
        mov     [spare2_descriptor], rax
        mov     dword [tss + 0x2C], 0x5800      ; IST2
        mov     dword [tss + 0x34], 0x5400      ; IST3

; Through a gate to ring 0: SS becomes null, the frame has 8 bytes an entry, and RETFQ goes back.
        GATE64  CODE64, gate_target, 0xEC
        SET_GATE64 0x30, gate_done, 0xEE, 0
        TO_USER gate_user
gate_user:
        mov     ax, USER_SS
        mov     ds, ax
        mov     rbx, far_gate
        call    far dword [rbx]
gate_back:
        mov     rdx, rsp
        mov     ecx, cs
        int     0x30
gate_target:
        CHECK   rsp, e, RSP0 - 32
        CHECK   qword [rsp], e, gate_back
        CHECK   word [rsp + 8], e, USER64
        CHECK   qword [rsp + 16], e, USER_STACK
        CHECK   word [rsp + 24], e, USER_SS
        mov     ax, ss
        CHECK   ax, e, 0
        o64 retf
gate_done:
        CHECK   rdx, e, USER_STACK
        CHECK   cx, e, USER64
        RING_0
; Gates that are none.
        mov     ebx, far_gate
        GATE64  CODE64, gate_target, 0x8C       ; of ring 0
        USER_FAULTS 13, GATE, call far dword [rbx]
        GATE64  CODE64, gate_target, 0x6C       ; absent
        USER_FAULTS 11, GATE, call far dword [rbx]
        GATE64  CODE32, gate_target, 0xEC       ; to code that is not 64-bit
        USER_FAULTS 13, CODE32, call far dword [rbx]
        GATE64  CODE64, gate_target, 0xE4       ; of 16 bits: there are none here
        USER_FAULTS 13, GATE, call far dword [rbx]
        GATE64  CODE64, gate_target, 0xEC
        mov     dword [gate_descriptor + 12], 0x100     ; the upper type field
        USER_FAULTS 13, GATE, call far dword [rbx]
        mov     dword [gate_descriptor + 12], 0
        mov     dword [gate_descriptor + 8], 0x8000     ; its target is not canonical
        USER_FAULTS 13, 0, call far dword [rbx]
        mov     dword [gate_descriptor + 8], 0
        ; JMP may not change rings; from ring 0 both work, on the same stack.
        USER_FAULTS 13, CODE64, jmp far dword [rbx]
        GATE64  CODE64, same_ring, 0xEC
        call    far dword [rbx]
after_same:
        jmp     near same_done
same_ring:
        CHECK   rsp, e, 0x7C00 - 16
        CHECK   qword [rsp], e, after_same
        CHECK   word [rsp + 8], e, CODE64
        o64 retf
same_done:
        CHECK   rsp, e, 0x7C00

; Task gates and TSS switches do not exist.
        FAULTS64 13, TASK2, jmp far dword [far_task]
; IRETQ to ring 3 with a null SS, or one of ring 0; to ring 0 with one.
%macro BAD_IRET 4                       ; vector, error code, CS, SS
        mov     rbp, rsp
        push    qword %4
        push    qword USER_STACK
        push    qword 2
        push    qword %3
        push    qword gate_user
        FAULTS64 %1, %2, iretq
        mov     rsp, rbp
%endmacro
        BAD_IRET 13, 0, USER64, 0
        BAD_IRET 13, 0, USER64, 3
        BAD_IRET 13, DATA32, USER64, DATA32
        BAD_IRET 13, 0, 0, USER_SS
        BAD_IRET 13, DATA32, DATA32, DATA32
        push    qword 0
        push    qword 0x7800
        push    qword 2
        push    qword CODE64
        push    qword .iret_null
        iretq
.iret_null:
        CHECK   rsp, e, 0x7800
        mov     ax, ss
        CHECK   ax, e, 0
        mov     esp, 0x7C00
        push    qword 0x4002            ; NT: no task to return to
        popfq
        FAULTS64 13, 0, iretq
        push    qword 2
        popfq
        ; A return address that is not canonical.
        mov     rax, 0x0000800000000000
        push    qword CODE64
        push    rax
        FAULTS64 13, 0, o64 retf
        add     esp, 16
; Leaving ring 0 nulls its data segments; FS and GS keep their bases only in the registers of 64-bit mode.
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        SET_GATE64 0x30, nulled, 0xEE, 0
        TO_USER null_user
null_user:
        mov     ecx, ds
        mov     edx, es
        int     0x30
nulled: CHECK   cx, e, 0
        CHECK   dx, e, 0
        RING_0

; The interrupt stack table: from the same ring, and again from inside, onto the same place.
        SET_GATE64 6, on_ist, 0x8E, 2
        mov     dword [depth], 0
        ud2
        CHECK   dword [depth], e, 2
        CHECK   rsp, e, 0x7C00
        SET_GATE64 6, stubs64 + 6 * STUB64_BYTES, 0x8E, 0
; A stack that is not canonical: #SS(0), and again, so a double fault, which has a stack of its own.
        SET_GATE64 8, double, 0x8E, 3
        mov     rax, 0x0000800000000000
        mov     rsp, rax
bad_rsp:
        ud2
double: CHECK   rsp, e, 0x5400 - 48
        CHECK   qword [rsp], e, 0
        CHECK   qword [rsp + 8], e, bad_rsp
        mov     rax, 0x0000800000000000
        CHECK   [rsp + 32], e, rax
        mov     esp, 0x7C00
        SET_GATE64 8, stubs64 + 8 * STUB64_BYTES, 0x8E, 0
        ; An IST entry that is not canonical: #SS with EXT or not, told on the current stack.
        mov     dword [tss + 0x30], 0x8000
        SET_GATE64 6, on_ist, 0x8E, 2
        FAULTS64 12, 1, ud2
        SET_GATE64 0x31, on_ist, 0x8E, 2
        FAULTS64 12, 0, int 0x31
        mov     dword [tss + 0x30], 0
        SET_GATE64 6, stubs64 + 6 * STUB64_BYTES, 0x8E, 0
        ; Gates that are none: absent, of 32 bits' type, to code that is not 64-bit.
        SET_GATE64 0x31, on_ist, 0x0E, 0
        FAULTS64 11, 0x31 * 8 + 2, int 0x31
        SET_GATE64 0x31, on_ist, 0x86, 0
        FAULTS64 13, 0x31 * 8 + 2, int 0x31
        SET_GATE64 0x31, on_ist, 0x85, 0
        FAULTS64 13, 0x31 * 8 + 2, int 0x31
        SET_GATE64 0x31, on_ist, 0x8E, 0
        mov     word [IDT64 + 16 * 0x31 + 2], CODE32
        FAULTS64 13, CODE32, int 0x31
        mov     word [IDT64 + 16 * 0x31 + 2], CODE64
        mov     dword [IDT64 + 16 * 0x31 + 8], 0x8000
        FAULTS64 13, 0, int 0x31

; Steps over SYSCALL and SYSRET: the flag as they leave it decides. FMASK clears it on the way in, so nothing there is
; stepped; R11 sets it on the way out, and the trap comes at once.
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 1
        wrmsr
        inc     ecx                     ; STAR
        xor     eax, eax
        mov     edx, (SPARE - 8) << 16 | CODE64
        wrmsr
        inc     ecx                     ; LSTAR
        mov     eax, entry
        xor     edx, edx
        wrmsr
        mov     ecx, 0xC0000084         ; FMASK
        mov     eax, 0x100
        wrmsr
        SET_GATE64 1, stepped, 0x8E, 0
        SET_GATE64 0x30, steps_done, 0xEE, 0
        mov     eax, 0xFFFF0FF0
        mov     dr6, rax
        push    qword USER_SS
        push    qword USER_STACK
        push    qword 0x102
        push    qword USER64
        push    qword s0
        iretq
s0:     nop
s1:     syscall
s2:     nop
s3:     int     0x30
entry:  CHECK   dword [place], e, steps + 8     ; S1 alone so far
        pushfq
        test    dword [rsp], 0x100
        CHECK_FLAG z
        add     esp, 8
        test    r11d, 0x100
        CHECK_FLAG nz
        o64 sysret
steps_done:
        RING_0
        CHECK   dword [steps], e, s1
        CHECK   dword [steps + 8], e, s2
        CHECK   dword [steps + 16], e, s3
        CHECK   dword [place], e, steps + 24
        PASS

on_ist: CHECK   rsp, e, 0x5800 - 40
        inc     dword [depth]
        cmp     dword [depth], 2
        je      .inner
        push    qword [rsp]             ; the second time overwrites the first one's frame: it is kept here
        pop     qword [kept]
        ud2
.inner: mov     rax, [kept]
        add     rax, 2
        mov     [rsp], rax              ; and goes on behind the first one
        mov     qword [rsp + 24], 0x7C00
        iretq
stepped:
        push    rax
        push    rbx
        mov     ebx, [place]
        mov     rax, [rsp + 16]
        mov     [rbx], rax
        add     dword [place], 8
        pop     rbx
        pop     rax
        iretq

        align   8
far_gate: dd    0x12345678              ; the offset is ignored
        dw      GATE | 3
        dw      0
far_task: dd    0
        dw      TASK2
kept:   dq      0
depth:  dd      0
place:  dd      steps
steps:  times   16 dq 0
