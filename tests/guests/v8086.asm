; Virtual-8086 mode: entered by IRETD and by a task switch; interrupts from it to ring 0, which push and null the data
; segments; IOPL-sensitive instructions, reflected by a small monitor; the I/O map; segment limits; hardware
; interrupts and single steps. Source: Intel SDM 3A, chapter 21.

%include "report.inc"
%include "protected.inc"

V86_TSS equ 0x2000
V86_SS  equ 0x0500
V86_SP  equ 0x1000
VM      equ 0x20000
FRAME   equ 36                          ; EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS

; TO_V86 label: IRETD to virtual-8086 mode with CS and DS 0, so that labels are what they are here.
%macro TO_V86 1
        push    dword 0x320             ; GS, FS, DS, ES
        push    dword 0x310
        push    dword 0
        push    dword 0x300
        push    dword V86_SS
        push    dword V86_SP
        push    dword [v86_flags]
        push    dword 0
        push    dword %1
        iret
%endmacro

; V86_FAULTS vector, error code, instruction: as FAULTS, in virtual-8086 mode.
%macro V86_FAULTS 3+
        mov     dword [resume], %%after
        mov     [resume_esp], esp
        mov     dword [fault_vector], -1
        TO_V86  %%at
        bits    16
%%at:   %3
        FAIL
        bits    32
%%after:
        CHECK   dword [fault_vector], e, %1
        CHECK   dword [fault_error], e, %2
        CHECK   dword [fault_eip], e, %%at
        test    dword [fault_flags], VM
        CHECK_FLAG nz
        CHECK   dword [fault_esp], e, 0x6C00 - FRAME + 12
        mov     dword [resume], 0
%endmacro

; Ring 0 again, as it was before TO_V86.
%macro RING_0 0
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     edi, V86_TSS
        mov     ecx, 0x100 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [V86_TSS + 4], 0x6C00
        mov     dword [V86_TSS + 8], DATA32
        mov     word [V86_TSS + 0x66], 0x68
        mov     edi, V86_TSS + 0x68     ; ports 0x40 to 0x47, 0x60, 0x80, 0xE9 and 0xF4 are allowed
        mov     ecx, 0x21
        mov     al, 0xFF
        rep     stosb
        mov     byte [V86_TSS + 0x68 + 0x40 / 8], 0
        mov     byte [V86_TSS + 0x68 + 0x60 / 8], 0xFE
        mov     byte [V86_TSS + 0x68 + 0x80 / 8], 0xFE
        mov     byte [V86_TSS + 0x68 + 0xE8 / 8], ~2 & 0xFF
        mov     byte [V86_TSS + 0x68 + 0xF0 / 8], ~0x10 & 0xFF
        mov     word [task_descriptor], 0x68 + 0x20
        mov     word [task_descriptor + 2], V86_TSS
        mov     ax, TASK
        ltr     ax

; In and out again: segments are those of real mode; the way in pushes all of them and leaves null ones.
        SET_GATE 0x30, CODE32, entered, 0xEE00
        mov     dword [v86_flags], VM | 0x3002
        mov     edi, 0x12345678
        TO_V86  v86_first
        bits    16
v86_first:
        mov     ax, cs
        CHECK   ax, e, 0
        mov     ax, ss
        CHECK   ax, e, V86_SS
        CHECK   sp, e, V86_SP
        mov     ax, ds
        CHECK   ax, e, 0
        mov     ax, es
        CHECK   ax, e, 0x300
        mov     ax, fs
        CHECK   ax, e, 0x310
        mov     ax, gs
        CHECK   ax, e, 0x320
        CHECK   edi, e, 0x12345678
        mov     word [es:0x10], 0x1234
        mov     word [fs:0x10], 0x5678
        mov     word [gs:0x10], 0x9ABC
        CHECK   word [0x3010], e, 0x1234
        CHECK   word [0x3110], e, 0x5678
        CHECK   word [0x3210], e, 0x9ABC
        push    word 0xBEEF
        CHECK   word [0x5FFE], e, 0xBEEF
        pop     ax
        mov     ax, 0x0F00              ; a segment register loads as in real mode
        mov     es, ax
        mov     word [es:0x10], 0x4321
        CHECK   word [0xF010], e, 0x4321
        mov     ax, 0x300
        mov     es, ax
        smsw    ax                      ; protected all the same
        test    al, 1
        CHECK_FLAG nz
        pushf                           ; IOPL 3: allowed, and POPF cannot change IOPL
        pop     ax
        and     ax, 0xF000
        CHECK   ax, e, 0x3000
        mov     ax, 0x0202
        push    ax
        popf
        pushfd
        pop     eax
        and     eax, 0x33202
        CHECK   eax, e, 0x3202          ; the image has no VM
        cli
        pushf
        pop     ax
        test    ax, 0x200
        CHECK_FLAG z
        stc
        int     0x30
v86_after:
        FAIL
        bits    32
entered:
        mov     ebx, esp
        pushf
        pop     ecx
        mov     eax, ds
        CHECK   ax, e, 0
        mov     eax, es
        CHECK   ax, e, 0
        mov     eax, fs
        CHECK   ax, e, 0
        mov     eax, gs
        CHECK   ax, e, 0
        mov     ax, ss
        CHECK   ax, e, DATA32
        CHECK   ebx, e, 0x6C00 - FRAME
        CHECK   dword [ss:ebx], e, v86_after
        CHECK   word [ss:ebx + 4], e, 0
        mov     eax, [ss:ebx + 8]
        and     eax, VM | 0x3201
        CHECK   eax, e, VM | 0x3001
        CHECK   dword [ss:ebx + 12], e, V86_SP
        CHECK   word [ss:ebx + 16], e, V86_SS
        CHECK   word [ss:ebx + 20], e, 0x300
        CHECK   word [ss:ebx + 24], e, 0
        CHECK   word [ss:ebx + 28], e, 0x310
        CHECK   word [ss:ebx + 32], e, 0x320
        test    ecx, VM | 0x4300        ; NT, IF and TF are clear as well
        CHECK_FLAG z
        RING_0
; A handler that touches a data segment before it loads one faults: they are null.
        SET_GATE 0x30, CODE32, touches_null, 0xEE00
        mov     dword [resume], null_touched
        mov     dword [resume_esp], 0x7C00
        TO_V86  v86_int
        bits    16
v86_int:
        int     0x30
        FAIL
        bits    32
touches_null:
        mov     eax, [0x800]
        FAIL
null_touched:
        CHECK   dword [fault_vector], e, 13
        CHECK   dword [fault_error], e, 0
        CHECK   dword [fault_eip], e, touches_null
        CHECK   dword [fault_cs], e, CODE32
        mov     dword [resume], 0

; A 16-bit gate pushes words.
        SET_GATE 0x30, CODE32, by_words, 0xE600
        TO_V86  v86_int2
        bits    16
v86_int2:
        int     0x30
v86_after2:
        FAIL
        bits    32
by_words:
        CHECK   esp, e, 0x6C00 - FRAME / 2
        CHECK   word [esp], e, v86_after2
        CHECK   word [esp + 6], e, V86_SP
        CHECK   word [esp + 8], e, V86_SS
        CHECK   word [esp + 10], e, 0x300
        CHECK   word [esp + 16], e, 0x320
        RING_0

; INT n needs IOPL 3 and a gate of ring 3; INT3 and INTO only the gate; INT1 neither.
        V86_FAULTS 13, 8 * 0x20 + 2, int 0x20
        V86_FAULTS 13, 8 * 3 + 2, int3
        SET_GATE 0x31, SPARE, entered, 0xEE00           ; to code of ring 3
        mov     dword [spare_descriptor], 0x0000FFFF
        mov     dword [spare_descriptor + 4], 0x00CFFA00
        V86_FAULTS 13, SPARE, int 0x31
        mov     dword [spare_descriptor + 4], 0x00CF9E00        ; conforming: it would stay in ring 3
        V86_FAULTS 13, SPARE, int 0x31
        mov     dword [v86_flags], VM | 2
        V86_FAULTS 13, 0, int 0x30
        SET_GATE 3, CODE32, stubs + 3 * STUB_BYTES, 0xEE00
        mov     dword [resume], int3_taken
        mov     [resume_esp], esp
        TO_V86  v86_int3
        bits    16
v86_int3:
        int3
v86_after3:
        FAIL
        bits    32
int3_taken:
        CHECK   dword [fault_vector], e, 3
        CHECK   dword [fault_eip], e, v86_after3
        mov     dword [resume], icebp_taken
        mov     [resume_esp], esp
        TO_V86  v86_icebp
        bits    16
v86_icebp:
        db      0xF1
v86_after4:
        FAIL
        bits    32
icebp_taken:
        CHECK   dword [fault_vector], e, 1
        CHECK   dword [fault_eip], e, v86_after4
        mov     dword [resume], 0

; What IOPL below 3 forbids.
        V86_FAULTS 13, 0, cli
        V86_FAULTS 13, 0, sti
        V86_FAULTS 13, 0, pushf
        V86_FAULTS 13, 0, popf
        V86_FAULTS 13, 0, pushfd
        V86_FAULTS 13, 0, popfd
        V86_FAULTS 13, 0, iret
        V86_FAULTS 13, 0, iretd
; What is never allowed, and what does not exist here.
        mov     dword [v86_flags], VM | 0x3002
        V86_FAULTS 13, 0, hlt
        V86_FAULTS 13, 0, mov eax, cr0
        V86_FAULTS 13, 0, mov eax, dr7
        V86_FAULTS 13, 0, lmsw ax
        V86_FAULTS 13, 0, clts
        V86_FAULTS 13, 0, lgdt [gdtr]
        V86_FAULTS 13, 0, invlpg [0]
        V86_FAULTS 13, 0, rdmsr
        V86_FAULTS 6, 0, lldt ax
        V86_FAULTS 6, 0, ltr ax
        V86_FAULTS 6, 0, sldt ax
        V86_FAULTS 6, 0, str ax
        V86_FAULTS 6, 0, lar ax, bx
        V86_FAULTS 6, 0, lsl ax, bx
        V86_FAULTS 6, 0, verr ax
        V86_FAULTS 6, 0, arpl ax, bx
; The I/O map counts whatever IOPL is.
        V86_FAULTS 13, 0, in al, 0x20
        V86_FAULTS 13, 0, out 0x61, al
        V86_FAULTS 13, 0, in ax, 0x60   ; the second port is not allowed
        V86_FAULTS 13, 0, in al, 0xF5
        V86_FAULTS 13, 0, insb
        mov     dword [v86_flags], VM | 2
        SET_GATE 6, CODE32, ports_done, 0x8E00
        TO_V86  v86_ports
        bits    16
v86_ports:
        in      al, 0xE9
        mov     bl, al
        in      ax, 0x42
        in      eax, 0x44
        mov     dx, 0x80
        in      al, dx
        ud2
        bits    32
ports_done:
        CHECK   bl, e, 0xE9
        RING_0
        SET_GATE 6, CODE32, stubs + 6 * STUB_BYTES, 0x8E00
; Limits: 64 KiB for everything.
        V86_FAULTS 13, 0, mov ax, [0xFFFF]
        V86_FAULTS 13, 0, a32 mov al, [dword 0x10000]
        V86_FAULTS 12, 0, mov ax, [ss:0xFFFF]

; A monitor that lets a real-mode program of its time run at IOPL 0: INT 21h goes to the program's own vector.
        SET_GATE 13, CODE32, monitor, 0x8E00
        mov     dword [4 * 0x21], dos
        TO_V86  program
        bits    16
program:
        sti
        mov     ah, 9
        stc
        int     0x21
        CHECK_FLAG nc                   ; the handler cleared it in the saved flags
        CHECK   ax, e, 0x0A00
        CHECK   sp, e, V86_SP
        pushf
        pop     ax
        test    ax, 0x200
        CHECK_FLAG nz                   ; IRET has set the virtual flag again
        cli
        pushf
        pop     ax
        test    ax, 0x200
        CHECK_FLAG z
        hlt                             ; ends it
        FAIL
dos:    push    bp
        mov     bp, sp
        and     byte [bp + 6], ~1
        pushf
        pop     bx                      ; INT cleared it for the handler
        test    bx, 0x200
        CHECK_FLAG z
        inc     ah
        mov     al, 0
        pop     bp
        iret
        bits    32
; #GP from virtual-8086 mode: EBP points to the frame.
monitor:
        pushad
        lea     ebp, [esp + 36]
        mov     ax, DATA32
        mov     ds, ax
        CHECK   dword [ebp - 4], e, 0   ; the error code
        test    dword [ebp + 8], VM
        CHECK_FLAG nz
        movzx   esi, word [ebp + 4]
        shl     esi, 4
        add     esi, [ebp]              ; its instruction
        movzx   edi, word [ebp + 16]
        shl     edi, 4                  ; its stack
        inc     dword [ebp]
        mov     al, [esi]
        cmp     al, 0xFA
        je      .cli
        cmp     al, 0xFB
        je      .sti
        cmp     al, 0x9C
        je      .pushf
        cmp     al, 0xCD
        je      .int
        cmp     al, 0xCF
        je      .iret
        CHECK   al, e, 0xF4
        CHECK   dword [reflected], e, 8 ; STI, INT, PUSHF, IRET, PUSHF, CLI, PUSHF, HLT
        RING_0
        jmp     near monitored
.cli:   and     dword [virtual_flags], ~0x200
        jmp     .done
.sti:   or      dword [virtual_flags], 0x200
        jmp     .done
.pushf: call    .flags
        jmp     .done
.int:   inc     dword [ebp]
        movzx   ebx, byte [esi + 1]
        call    .flags
        mov     ax, [ebp + 4]
        call    .push
        mov     ax, [ebp]
        call    .push
        and     dword [virtual_flags], ~0x200
        movzx   eax, word [4 * ebx]
        mov     [ebp], eax
        mov     ax, [4 * ebx + 2]
        mov     [ebp + 4], ax
        jmp     .done
.iret:  call    .pop
        movzx   eax, ax
        mov     [ebp], eax
        call    .pop
        mov     [ebp + 4], ax
        call    .pop
        mov     [ebp + 8], al           ; arithmetic flags
        and     eax, 0x200
        mov     [virtual_flags], eax
.done:  inc     dword [reflected]
        popad
        add     esp, 4
        iret
.flags: mov     eax, [ebp + 8]
        and     eax, 0xCD5
        or      eax, [virtual_flags]
.push:  sub     word [ebp + 12], 2
        movzx   edx, word [ebp + 12]
        mov     [edi + edx], ax
        ret
.pop:   movzx   edx, word [ebp + 12]
        mov     ax, [edi + edx]
        add     word [ebp + 12], 2
        ret

monitored:
        SET_GATE 13, CODE32, stubs + 13 * STUB_BYTES, 0x8E00
; Hardware interrupts: at IOPL 0 with the real flag set; nothing of the program changes.
        PIC_START
        SET_GATE 0x20, CODE32, timer, 0x8E00
        SET_GATE 0x30, CODE32, ticked, 0xEE00
        OUT8    0x43, 0x34              ; the timer every millisecond
        OUT8    0x40, 1193 & 0xFF
        OUT8    0x40, 1193 >> 8
        OUT8    0x21, 0xFE
        mov     dword [v86_flags], VM | 0x202
        SET_GATE 6, CODE32, ticked, 0x8E00
        TO_V86  v86_wait
        bits    16
v86_wait:
        mov     edi, 0x1A2B3C4D
        mov     ecx, 10 * PATIENCE
.more:  in      al, 0x80
        cmp     byte [ticks], 3
        jae     .enough
        dec     ecx
        jnz     .more
        FAIL
.enough:
        CHECK   edi, e, 0x1A2B3C4D
        mov     ax, es
        CHECK   ax, e, 0x300
        mov     ax, gs
        CHECK   ax, e, 0x320
        ud2
        bits    32
timer:  push    eax
        push    ds
        mov     eax, ds                 ; null if it came from virtual-8086 mode
        CHECK   ax, e, 0
        mov     ax, DATA32
        mov     ds, ax
        test    dword [esp + 16], VM
        CHECK_FLAG nz
        inc     byte [ticks]
        OUT8    0x20, 0x20
        pop     ds
        pop     eax
        iret
ticked: RING_0
        OUT8    0x21, 0xFF
        SET_GATE 6, CODE32, stubs + 6 * STUB_BYTES, 0x8E00

; Single steps out of virtual-8086 mode: TF traps after its instruction, and the handler is not stepped.
        SET_GATE 1, CODE32, stepped, 0x8E00
        SET_GATE 6, CODE32, steps_done, 0x8E00
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        mov     dword [v86_flags], VM | 0x102
        TO_V86  v86_steps
        bits    16
v86_steps:
        nop
.one:   mov     bx, 5
.two:   jmp     .three
        nop
.three: ud2
        bits    32
stepped:
        push    eax
        mov     ax, DATA32
        mov     ds, ax
        mov     eax, [place]
        add     dword [place], 4
        push    ebx
        mov     ebx, [esp + 8]
        mov     [eax], ebx
        pop     ebx
        pop     eax
        iret
steps_done:
        RING_0
        CHECK   dword [steps], e, v86_steps.one
        CHECK   dword [steps + 4], e, v86_steps.two
        CHECK   dword [steps + 8], e, v86_steps.three
        CHECK   dword [place], e, steps + 12
        SET_GATE 6, CODE32, stubs + 6 * STUB_BYTES, 0x8E00

; POPF in ring 0 cannot set VM; nor can IRETD in ring 3.
        push    dword VM | 2
        popf
        pushf
        pop     eax
        test    eax, VM
        CHECK_FLAG z
        SET_GATE 0x30, CODE32, still_ring_3, 0xEE00
        push    dword USER_DATA
        push    dword 0x6000
        push    dword 2
        push    dword USER_CODE
        push    dword user
        iret
user:   push    dword VM | 2
        push    dword USER_CODE
        push    dword .on
        iret
.on:    int     0x30
still_ring_3:
        CHECK   dword [esp + 4], e, USER_CODE
        test    dword [esp + 8], VM
        CHECK_FLAG z
        RING_0

; A task that is in virtual-8086 mode.
        SET_GATE 0x30, CODE32, in_task, 0xEE00
        mov     dword [tss2 + 4], 0x6800
        mov     dword [tss2 + 8], DATA32
        mov     dword [tss2 + 0x20], v86_task
        mov     dword [tss2 + 0x24], VM | 0x3002
        mov     dword [tss2 + 0x38], 0x800
        mov     dword [tss2 + 0x48], 0x330
        mov     dword [tss2 + 0x4C], 0
        mov     dword [tss2 + 0x50], V86_SS
        mov     dword [tss2 + 0x54], 0
        mov     word [tss2 + 0x66], 0x68
        jmp     TASK2:0
        bits    16
v86_task:
        int     0x30
        bits    32
in_task:
        CHECK   esp, e, 0x6800 - FRAME
        CHECK   word [esp + 20], e, 0x330
        CHECK   word [esp + 16], e, V86_SS
        CHECK   dword [esp + 12], e, 0x800
        mov     ax, DATA32
        mov     ds, ax
        PASS

v86_flags:      dd 0
virtual_flags:  dd 0
reflected:      dd 1                    ; counts the HLT that ends it
ticks:          db 0
place:          dd steps
steps:          times 16 dd 0
