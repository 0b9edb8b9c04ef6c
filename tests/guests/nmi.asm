; Non-maskable interrupts through the local APIC, blocked until IRET (also one that faults); the windows that STI and
; MOV SS leave closed for an instruction; HLT. Source: Intel SDM 3A, 6.7, 6.8.1, 6.8.3, 11.6.

%include "report.inc"
%include "protected.inc"

APIC    equ 0xFEE00000
SVR     equ APIC + 0xF0
EOI     equ APIC + 0xB0
ICR     equ APIC + 0x300
LINT0   equ APIC + 0x350
ICR_HIGH equ APIC + 0x310
NMI     equ 0x4400                      ; to the processor in ICR_HIGH, which is this one (0)
SELF    equ 0x44000                     ; a fixed interrupt to itself
VECTOR  equ 0x38

; REQUEST: a maskable interrupt comes in. SEND_NMI: a non-maskable one does.
%macro REQUEST 0
        mov     dword [ICR], SELF | VECTOR
%endmacro
%macro SEND_NMI 0
        mov     dword [ICR_HIGH], 0
        mov     dword [ICR], NMI
%endmacro
%macro CAME 2                           ; how many have come, and where the last was
        CHECK   dword [count], e, %1
        CHECK   dword [where], e, %2
%endmacro

        REAL_MODE_START
        PIC_START
        ENTER_PROTECTED_MODE
        mov     ax, TASK
        ltr     ax
        mov     dword [SVR], 0x1FF
        SET_GATE VECTOR, CODE32, interrupt, 0x8E00
        SET_GATE 2, CODE32, nmi, 0x8E00
        SET_GATE 0x31, CODE32, without_iret, 0x8E00

; STI: the instruction after it is executed first; STI again, or CLI, makes no difference.
        REQUEST
        xor     eax, eax
        sti
        inc     eax
a1:     inc     eax
        cli
        cmp     dword [count], 0
        jne     .in_time
        END     253                     ; what runs this looks for interrupts less often than that
.in_time:
        CAME    1, a1
        CHECK   eax, e, 2
        REQUEST
        sti
        cli
        CHECK   dword [count], e, 1     ; closed again before it opened
        sti
        sti
a2:     nop
        CAME    2, a2
        cli
; POPF and IRET open at once.
        REQUEST
        push    dword 0x202
        popf
a3:     nop
        CAME    3, a3
        cli
        REQUEST
        push    dword 0x202
        push    dword CODE32
        push    dword a4
        iret
a4:     nop
        CAME    4, a4
        cli
; MOV SS and POP SS close it for one instruction. (STI; MOV SS: the interrupt may come before either's next.)
        REQUEST
        mov     ax, ss
        sti
        nop
a5:     nop
        CAME    5, a5
        REQUEST                         ; open: at once
a6:     nop
        CAME    6, a6
        cli
; STI and HLT: it wakes, and the return address is behind HLT.
        REQUEST
        sti
        hlt
a7:     nop
        CAME    7, a7
        cli

; NMI does not care for IF, and comes at the next boundary.
        SEND_NMI
b1:     nop
        CHECK   dword [nmis], e, 1
        CHECK   dword [nmi_where], e, b1
        ; Within its handler another one waits, and a third is lost. Faults and interrupts are served meanwhile.
        mov     dword [nest], 2
        SEND_NMI
b2:     nop
        CHECK   dword [nmis], e, 3
        CHECK   dword [nmi_where], e, b2
        CHECK   dword [deepest], e, 1
        ; An IRET that faults unblocks as well.
        mov     dword [nest], -1
        SEND_NMI
b3:     nop
        CHECK   dword [nmis], e, 5
        CHECK   dword [deepest], e, 2
        ; HLT without interrupts is ended by one.
        mov     dword [nest], 0
        mov     dword [LINT0], 0x400    ; the 8259A's request, as an NMI
        OUT8    0x43, 0x30
        OUT8    0x40, 0
        OUT8    0x40, 4                 ; in about 900 us
        OUT8    0x21, 0xFE
        hlt
b4:
        CHECK   dword [nmi_where], e, b4
        CHECK   dword [nmis], e, 6
        mov     dword [LINT0], 0x10000
        OUT8    0x21, 0xFF
; Both at once: the NMI first, the interrupt before its handler's first instruction is no matter, for IF is clear.
        REQUEST
        SEND_NMI
        sti
        nop
b5:     nop
        CHECK   dword [nmis], e, 7
        CHECK   dword [count], e, 8
        CHECK   dword [nmi_seen], e, 7  ; how many interrupts had come
        cli
; In ring 3: on the stack of ring 0.
        SET_GATE 0x30, CODE32, back, 0xEE00
        push    dword USER_DATA
        push    dword 0x6000
        push    dword 2
        push    dword USER_CODE
        push    dword user
        mov     ax, USER_DATA
        mov     ds, ax
        mov     es, ax
        iret
user:   mov     dword [ICR], NMI
user_next:
        nop
        int     0x30
back:   mov     ax, DATA32
        mov     ds, ax
        mov     esp, 0x7C00
        CHECK   dword [nmis], e, 8
        CHECK   dword [nmi_where], e, user_next
        PASS

without_iret:
        pop     dword [where]
        add     esp, 4
        popf
        jmp     [where]
interrupt:
        push    eax
        mov     eax, [esp + 4]
        mov     [where], eax
        inc     dword [count]
        mov     dword [EOI], 0
        pop     eax
        iret

nmi:    push    eax
        push    ds
        mov     ax, DATA32
        mov     ds, ax
        inc     dword [nmis]
        mov     eax, [esp + 8]
        mov     [nmi_where], eax
        mov     eax, [count]
        mov     [nmi_seen], eax
        inc     dword [depth]
        mov     eax, [depth]
        cmp     eax, [deepest]
        jbe     .not_deeper
        mov     [deepest], eax
.not_deeper:
        cmp     dword [nest], 0
        je      near nmi_out
        jl      .faulting
        SEND_NMI
        SEND_NMI
        mov     dword [nest], 0
        mov     ecx, 1000
.wait:  nop
        loop    .wait
        CHECK   dword [nmis], e, 2
        int     0x31                    ; whose handler ends with a RET: it leaves them blocked
        CHECK   dword [nmis], e, 2
        jmp     near nmi_out
.faulting:
        mov     dword [nest], 0
        SEND_NMI
        nop
        CHECK   dword [nmis], e, 4      ; blocked
        push    dword 2
        push    dword 0                 ; IRET to the null selector
        push    dword 0
        SET_GATE 13, CODE32, iret_faulted, 0x8E00
.bad:   iret
iret_faulted:
        add     esp, 4 + 12             ; the NMI has come before this
        CHECK   dword [nmis], e, 5
        add     esp, 12
        SET_GATE 13, CODE32, stubs + 13 * STUB_BYTES, 0x8E00
nmi_out:
        dec     dword [depth]
        pop     ds
        pop     eax
        iret

        align   4
count:  dd      0
where:  dd      0
nmis:   dd      0
nmi_where: dd   0
nmi_seen: dd    0
nest:   dd      0
depth:  dd      0
deepest: dd     0
