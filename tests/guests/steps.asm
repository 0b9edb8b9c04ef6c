; The trap flag over each kind of instruction, and with breakpoints: branches, calls, strings, stacks, flags, faults,
; interrupts, HLT, far returns, task switches; what DR6 says when several reasons meet. Source: Intel SDM 3B, 18.3.

%include "report.inc"
%include "protected.inc"

; STEPS: what follows is stepped. STEPPED label...: ends it; the traps were at these places, in this order.
%macro STEPS 0
        mov     dword [place], steps
        push    dword 0x102
        popf
%endmacro
; AT label...: what the traps' return addresses must have been.
%macro AT 1-*
        mov     esi, steps
%rep %0
        CHECK   dword [esi], e, %1
        CHECK   dword [esi + 4], e, 0xFFFF4FF0  ; DR6: a single step
        add     esi, 8
%rotate 1
%endrep
        CHECK   [place], e, esi
%endmacro
BYTES   equ 0x3000

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        SET_GATE 1, CODE32, debug, 0x8E00
        SET_GATE 0x30, CODE32, interrupt, 0x8E00
        SET_GATE 6, CODE32, skip_ud2, 0x8E00
        mov     ax, TASK
        ltr     ax
        call    reset_dr6

; Branches, taken and not; calls, near and far.
        xor     eax, eax
        mov     ecx, 2
        STEPS
        nop
b1:     jz      b3                      ; ZF is clear: POPF made the flags
b2:     jnz     b3
        nop
b3:     loop    b3
b4:     jecxz   b5
        nop
b5:     call    near_target
b6:     call    CODE32:far_target
b7:     mov     edx, b8
b7a:    jmp     edx
        nop
b8:     jmp     CODE32:b9
b9:     push    dword 2
b9a:    popf
b9b:    AT      b1, b2, b3, b3, b4, b5, near_target, b6, far_target, far_target1, b7, b7a, b8, b9, b9a, b9b
        jmp     near strings_part
near_target:
        ret
far_target:
        nop
far_target1:
        retf

; Strings: a trap after each element, one when there is none, and the end of REPE.
strings_part:
        mov     edi, BYTES
        mov     eax, 0
        mov     ecx, 16
        rep     stosd
        mov     byte [BYTES + 0x12], 1
        mov     esi, BYTES
        mov     edi, BYTES + 0x10
        mov     ecx, 0
        STEPS
s0:     rep     movsb
s1:     mov     cl, 2
s2:     rep     movsb
s3:     mov     cl, 9
s4:     repe    cmpsb
s5:     movsb
s6:     lodsb
s7:     push    dword 2
s8:     popf
s9:     AT      s1, s2, s2, s3, s4, s5, s6, s7, s8, s9
        CHECK   ecx, e, 8

; Stacks and flags. PUSHF shows TF; MOV SS and POP SS hold the trap off for one instruction, STI does not.
        mov     ax, ss
        push    ss
        STEPS
        nop
f0:     pushf
f1:     pop     edx
f2:     mov     ss, ax
        nop
f3:     pop     ss
        nop
f4:     sti
f5:     cli
f6:     pusha
f7:     popa
f8:     enter   8, 0
f9:     leave
f10:    lea     esp, [esp]
f11:    push    dword 2
f12:    popf
f13:    AT      f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13
        test    edx, 0x100
        CHECK_FLAG nz

; Whatever else has a path of its own in a processor.
        mov     eax, cr0
        and     eax, ~0xC
        mov     cr0, eax
        fninit
        mov     ebx, 1
        STEPS
        nop
w0:     xor     eax, eax
w1:     cpuid
w2:     rdtsc
w3:     in      al, 0x80
w4:     out     0x80, al
w5:     mov     eax, cr0
w6:     mov     cr0, eax
w7:     mov     eax, cr3
w8:     mov     cr3, eax
w9:     wbinvd
w10:    invlpg  [0]
w11:    lgdt    [gdtr]
w12:    lidt    [idtr]
w13:    mov     ax, DATA32
w14:    mov     ds, ax
w15:    lar     eax, eax
w16:    fld1
w17:    fstp    dword [BYTES]
w18:    lock inc dword [BYTES + 8]
w19:    xchg    [BYTES + 8], eax
w20:    mov     eax, 7
w21:    mov     edx, 0
w22:    mov     ecx, 2
w23:    div     ecx
w24:    bts     [BYTES], ecx
w25:    clts
w26:    mov     eax, dr0
w27:    push    dword 2
w28:    popf
w29:    AT      w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, w28, w29

; Faults and software interrupts: their handlers are not stepped, and the first trap is after the instruction to which
; they return.
        STEPS
        nop
i0:     ud2                             ; the handler goes on behind it
        nop
i1:     int     0x30
        nop
i2:     push    dword 2
i3:     popf
i4:     AT      i0, i1, i2, i3, i4

; IRET that sets TF: after the next instruction. IRET that clears it: once more, for TF was set when it began.
        mov     dword [place], steps
        push    dword 0x102
        push    dword CODE32
        push    dword r0
        iret
r0:     nop
r1:     push    dword 2
r2:     push    dword CODE32
r3:     push    dword r5
r4:     iret
r5:     nop
        nop
        AT      r1, r2, r3, r4, r5

; HLT: the trap ends it.
        STEPS
        nop
h0:     hlt
h1:     push    dword 2
h2:     popf
h3:     AT      h0, h1, h2, h3

; To ring 3 and back: the flag goes along.
        mov     dword [place], steps
        SET_GATE 0x31, CODE32, from_user, 0xEE00
        push    dword USER_DATA
        push    dword 0x6000
        push    dword 0x102
        push    dword USER_CODE
        push    dword u0
        iret
u0:     nop
u1:     mov     eax, 5
u2:     int     0x31
        jmp     $
from_user:
        test    dword [esp + 8], 0x100
        CHECK_FLAG nz
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00
        AT      u1, u2

; A task with the T bit: a trap before its first instruction.
        mov     dword [place], steps
        mov     dword [tss2 + 0x20], in_task
        mov     dword [tss2 + 0x24], 2
        mov     dword [tss2 + 0x38], 0x6000
        mov     dword [tss2 + 0x48], DATA32
        mov     dword [tss2 + 0x4C], CODE32
        mov     dword [tss2 + 0x50], DATA32
        mov     dword [tss2 + 0x54], DATA32
        mov     dword [tss2 + 0x64], 0x680001
        jmp     TASK2:0
in_task:
        CHECK   dword [steps], e, in_task
        CHECK   dword [steps + 4], e, 0xFFFF8FF0
        CHECK   dword [place], e, steps + 8

; Single step and data breakpoint at once: one trap with both bits.
        mov     eax, watched
        mov     dr0, eax
        mov     eax, 0x000D0402         ; DR0: writes, 4 bytes
        mov     dr7, eax
        STEPS
        nop
d0:     mov     dword [watched], 1
d1:     push    dword 2
d2:     popf
d3:     CHECK   dword [steps], e, d0
        CHECK   dword [steps + 8], e, d1
        CHECK   dword [steps + 12], e, 0xFFFF4FF1
        CHECK   dword [place], e, steps + 32

; A breakpoint on the stepped instruction: first the step's trap, then the breakpoint's fault, once.
        mov     eax, x1
        mov     dr0, eax
        mov     eax, 0x00000402         ; execution
        mov     dr7, eax
        STEPS
x0:     nop
x1:     inc     eax
x2:     push    dword 2
x3:     popf
x4:     xor     eax, eax
        mov     dr7, eax
        CHECK   dword [steps], e, x1
        test    dword [steps + 4], 0x4000
        CHECK_FLAG nz
        CHECK   dword [steps + 8], e, x1
        CHECK   dword [steps + 12], e, 0xFFFF0FF1
        CHECK   dword [steps + 16], e, x2
        CHECK   dword [steps + 20], e, 0xFFFF4FF0
        CHECK   dword [place], e, steps + 40

; MOV SS holds a data breakpoint's trap off as well.
        mov     eax, some_ss
        mov     dr0, eax
        mov     eax, 0x00070402         ; DR0: reads and writes, 2 bytes
        mov     dr7, eax
        mov     dword [place], steps
        mov     ss, [some_ss]
m0:     inc     ecx
m1:     xor     eax, eax
        mov     dr7, eax
        CHECK   dword [steps], e, m1
        CHECK   dword [steps + 4], e, 0xFFFF0FF1
        CHECK   dword [place], e, steps + 8
        PASS

; Notes where it was and DR6, and clears that.
debug:  push    eax
        push    ebx
        push    ds
        mov     ax, DATA32
        mov     ds, ax
        mov     ebx, [place]
        mov     eax, [esp + 12]
        mov     [ebx], eax
        mov     eax, dr6
        mov     [ebx + 4], eax
        add     dword [place], 8
        test    ah, 0x40                ; a breakpoint alone: on with RF
        jnz     .plain
        or      dword [esp + 20], 0x10000
.plain: call    reset_dr6
        pop     ds
        pop     ebx
        pop     eax
        iret
reset_dr6:
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        ret
interrupt:
        pushf
        test    dword [esp], 0x100
        CHECK_FLAG z
        add     esp, 4
        test    dword [esp + 8], 0x100
        CHECK_FLAG nz
        iret
skip_ud2:
        test    dword [esp + 8], 0x100
        CHECK_FLAG nz
        add     dword [esp], 2
        iret

        align   4
watched: dd     0
some_ss: dd     DATA32
place:   dd     steps
steps:   times 128 dd 0
