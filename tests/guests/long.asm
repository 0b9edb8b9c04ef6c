; Long mode: 4-level paging with 2 MiB and 4 KiB pages, canonical addresses, NX, stack alignment and IST, FS and GS
; bases, SYSCALL and SYSRET, ring 3, compatibility mode. Source: Intel SDM 3A, chapters 5 and 6.

%include "report.inc"
%include "protected.inc"
%include "long.inc"

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        ENTER_LONG_MODE

        mov     ecx, 0xC0000080
        rdmsr
        CHECK   eax, e, 0x500           ; LME and LMA
        mov     rax, 0x123456789ABCDEF0
        mov     r15, rax
        shr     r15, 4
        mov     rbx, 0x0123456789ABCDEF
        CHECK   r15, e, rbx
        mov     eax, eax                ; 32-bit results clear the upper half
        mov     ebx, 0x9ABCDEF0
        CHECK   rax, e, rbx
        mov     rax, -1
        mov     ax, 0
        CHECK   eax, e, 0xFFFF0000
        lea     rax, [rel $]
        mov     ebx, $ - 7
        CHECK   rax, e, rbx
        push    qword -2
        pop     rax
        CHECK   rax, e, -2

; Exceptions, and what is no instruction any more.
        FAULTS64 6, 0, ud2
        FAULTS64 6, 0, db 0x06          ; push es
        FAULTS64 6, 0, db 0x27          ; daa
        FAULTS64 6, 0, db 0x60          ; pusha
        FAULTS64 6, 0, db 0xEA          ; jmp far imm
        xor     ecx, ecx
        FAULTS64 0, 0, div rcx
; Canonical addresses: #GP, on the stack #SS.
        mov     rbx, 0x0000800000000000
        FAULTS64 13, 0, mov rax, [rbx]
        FAULTS64 13, 0, mov rax, [rbx - 4]
        mov     rbp, rbx
        FAULTS64 12, 0, mov rax, [rbp]
        FAULTS64 13, 0, jmp rbx
        mov     rbx, 0xFFFF7FFFFFFFFFFF
        FAULTS64 13, 0, mov al, [rbx]
; A page that is not there, high up.
        mov     rbx, 0xFFFF800000000010
        FAULTS64 14, 0, mov rax, [rbx]
        CHECK   qword [fault64 + 56], e, rbx
        FAULTS64 14, 2, mov [rbx], rax
; Mapped there.
        mov     rax, PDPT | 3
        mov     [PML4 + 256 * 8], rax
        mov     qword [0x28010], 0x4242
        mov     rbx, 0xFFFF800000028010
        CHECK   qword [rbx], e, 0x4242
        CHECK   dword [DIRECTORIES], e, 0xE7    ; accessed, dirty

; 4 KiB pages and NX.
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800
        wrmsr
        mov     qword [DIRECTORIES + 8 * 8], FINE | 7           ; 16 MiB
        mov     qword [FINE], 0x20007
        mov     rax, 0x8000000000020007
        mov     [FINE + 8], rax
        mov     qword [FINE + 16], 0
        invlpg  [0x1000000]
        invlpg  [0x1001000]
        mov     byte [0x20000], 0xC3
        mov     ebx, 0x1000000
        call    rbx
        mov     ebx, 0x1001000
        mov     qword [resume64], .no_execute
        mov     [resume_rsp], rsp
        call    rbx
.no_execute:
        CHECK   qword [fault64], e, 14
        CHECK   qword [fault64 + 8], e, 0x11
        CHECK   qword [fault64 + 16], e, rbx
        mov     rsp, [resume_rsp]
        mov     qword [0x1001FF8], 5
        FAULTS64 14, 2, mov dword [0x1001FFE], 5
        CHECK   qword [fault64 + 56], e, 0x1002000

; The frame of an interrupt: RSP aligned to 16, SS and RSP always there.
        mov     rsp, 0x7C00 - 8
        SET_GATE64 0x30, aligned, 0x8E, 0
        int     0x30
after_aligned:
        CHECK   rsp, e, 0x7C00 - 8
        mov     esp, 0x7C00
        ; IST 1 is taken from ring 0 too.
        SET_GATE64 0x31, on_ist, 0x8E, 1
        int     0x31
        CHECK   rsp, e, 0x7C00

; FS and GS bases, SWAPGS.
        mov     ecx, 0xC0000100
        mov     eax, 0x21000
        mov     edx, 0xFFFF8000
        wrmsr
        mov     rax, 0x1122334455667788
        mov     [0x29000], rax
        CHECK   qword [fs:0x8000], e, rax
        mov     ecx, 0xC0000101
        xor     edx, edx
        mov     eax, 0x28000
        wrmsr
        inc     ecx                     ; KERNEL_GS_BASE
        mov     eax, 0x27000
        wrmsr
        mov     rax, [gs:0x1000]
        CHECK   rax, e, [0x29000]
        swapgs
        mov     rax, [gs:0x2000]
        CHECK   rax, e, [0x29000]
        swapgs
        mov     ecx, 0xC0000100
        mov     eax, 0
        mov     edx, 0x00008000
        FAULTS64 13, 0, wrmsr           ; not canonical

; SYSCALL and SYSRET: STAR wants 32-bit user code, data, 64-bit user code in this order.
        mov     rax, [gdt + (USER_CODE & ~7)]
        mov     rbx, [gdt + (USER_DATA & ~7)]
        mov     [spare_descriptor], rbx         ; SPARE: user data
        mov     rax, 0x00AFFB000000FFFF         ; 64-bit user code
        mov     [spare2_descriptor], rax
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 1
        wrmsr
        mov     ecx, 0xC0000081                 ; STAR
        xor     eax, eax
        mov     edx, (SPARE - 8) << 16 | CODE64
        wrmsr
        inc     ecx                             ; LSTAR
        mov     eax, system_call
        xor     edx, edx
        wrmsr
        mov     ecx, 0xC0000084                 ; FMASK
        mov     eax, 0x401
        wrmsr
        mov     ecx, user64
        mov     r11d, 0x403
        mov     rsp, 0x7000
        o64 sysret
user64: mov     r12w, cs
        mov     r13w, ss
        mov     rbx, 0xABCD
        stc
        std
        syscall
after_syscall:
        jmp     $
system_call:
        cld
        mov     rdx, after_syscall
        CHECK   rcx, e, rdx
        and     r11d, 0x401
        CHECK   r11d, e, 0x401
        CHECK   rbx, e, 0xABCD
        CHECK   r12w, e, SPARE2 | 3
        CHECK   r13w, e, SPARE | 3
        CHECK   rsp, e, 0x7000          ; SYSCALL leaves RSP alone
        mov     ax, ss
        CHECK   ax, e, CODE64 + 8       ; the selector; its descriptor is not looked at
        mov     esp, 0x7C00
        xor     eax, eax
        mov     ss, ax

; An interrupt from ring 3 goes to RSP0.
        SET_GATE64 0x32, from_user, 0xEE, 0
        push    SPARE | 3
        push    0x7008
        push    2
        push    SPARE2 | 3
        push    user_int
        iretq
user_int:
        int     0x32
user_after:
        jmp     $
from_user:
        CHECK   rsp, e, 0x6C00 - 40
        CHECK   qword [rsp], e, user_after
        CHECK   qword [rsp + 8], e, SPARE2 | 3
        CHECK   qword [rsp + 24], e, 0x7008
        CHECK   qword [rsp + 32], e, SPARE | 3
        mov     ax, ss                  ; null in ring 0
        CHECK   ax, e, 0
        mov     esp, 0x7C00

; Compatibility mode: 32-bit and 16-bit code under the same tables.
        push    DATA32
        push    0x7C00
        push    2
        push    CODE32
        push    compatible
        iretq
        bits    32
compatible:
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     eax, -1
        inc     eax
        CHECK   eax, e, 0
        db      0x40                    ; inc eax, no REX
        CHECK   eax, e, 1
        mov     ebx, 0x29000
        CHECK   dword [ebx], e, 0x55667788
        mov     dword [resume64], from_compatible
        mov     dword [resume_rsp], 0x7800
        int     0x34                    ; noted by the 64-bit handler
        FAIL
        bits    64
from_compatible:
        CHECK   qword [fault64], e, 0x34
        CHECK   qword [fault64 + 24], e, CODE32
        CHECK   qword [fault64 + 40], e, 0x7C00
; Leaving long mode.
        push    CODE32
        push    leave32
        o64 retf
        bits    32
leave32:
        mov     ax, DATA32
        mov     ss, ax
        mov     eax, cr0
        and     eax, 0x7FFFFFFF
        mov     cr0, eax
        mov     ecx, 0xC0000080
        rdmsr
        test    eax, 0x400              ; LMA is gone
        CHECK_FLAG z
        and     eax, ~0x100
        wrmsr
        lidt    [idtr]
        FAULTS  6, 0, ud2
        PASS

        bits    64
aligned:
        test    spl, 15
        CHECK_FLAG nz                   ; five values on an aligned stack
        CHECK   rsp, e, 0x7C00 - 16 - 40
        CHECK   qword [rsp + 24], e, 0x7C00 - 8
        CHECK   qword [rsp], e, after_aligned
        iretq
on_ist: CHECK   rsp, e, 0x5C00 - 40
        CHECK   qword [rsp + 24], e, 0x7C00
        iretq
