; The local APIC: version, timer one-shot and periodic, priorities, self interrupts by the command register, the
; spurious vector, and the error register. Source: Intel SDM 3A, chapter 11.

%include "report.inc"
%include "protected.inc"

APIC    equ 0xFEE00000
ID      equ APIC + 0x20
VERSION equ APIC + 0x30
TPR     equ APIC + 0x80
EOI     equ APIC + 0xB0
LDR     equ APIC + 0xD0
DFR     equ APIC + 0xE0
SVR     equ APIC + 0xF0
ISR     equ APIC + 0x100
IRR     equ APIC + 0x200
ESR     equ APIC + 0x280
ICR     equ APIC + 0x300
ICR_HIGH equ APIC + 0x310
LVT_TIMER equ APIC + 0x320
INITIAL equ APIC + 0x380
CURRENT equ APIC + 0x390
DIVIDE  equ APIC + 0x3E0

        REAL_MODE_START
        PIC_START
        ENTER_PROTECTED_MODE
        mov     ecx, 0x1B
        rdmsr
        and     eax, 0xFFFFF900
        CHECK   eax, e, 0xFEE00900      ; enabled, bootstrap
        CHECK   dword [ID], e, 0
        mov     eax, [VERSION]
        and     eax, 0xF0
        CHECK   eax, e, 0x10
        CHECK   dword [DFR], e, 0xFFFFFFFF
        mov     dword [SVR], 0x1FF
        CHECK   dword [SVR], e, 0x1FF
        mov     dword [LDR], 0x01000000
        CHECK   dword [LDR], e, 0x01000000
        mov     dword [TPR], 0
        SET_GATE 0x30, CODE32, first, 0x8E00
        SET_GATE 0x38, CODE32, second, 0x8E00
        SET_GATE 0x3F, CODE32, third, 0x8E00

; One-shot: runs down once, interrupts once.
        mov     dword [DIVIDE], 0x0B    ; by 1
        mov     dword [LVT_TIMER], 0x30
        sti
        mov     dword [INITIAL], 100000
        CHECK   dword [INITIAL], e, 100000
        AWAIT_MEMORY dword [count], e, 1
        CHECK   dword [CURRENT], e, 0
        mov     ecx, 2000
.once:  in      al, 0x80
        dec     ecx
        jnz     .once
        CHECK   dword [count], e, 1
; Masked: runs down, no interrupt.
        mov     dword [LVT_TIMER], 0x10030
        mov     dword [INITIAL], 10000
        AWAIT_MEMORY dword [CURRENT], e, 0
        mov     ecx, 100
.mask:  in      al, 0x80
        dec     ecx
        jnz     .mask
        CHECK   dword [count], e, 1
; Periodic; the current count stays below the initial one.
        mov     dword [count], 0
        mov     dword [LVT_TIMER], 0x20030
        mov     dword [INITIAL], 1000000
        mov     ecx, 20
.below: mov     eax, [CURRENT]
        CHECK   eax, be, 1000000
        dec     ecx
        jnz     .below
.five:  hlt
        cmp     dword [count], 5
        jb      .five
        mov     dword [INITIAL], 0      ; stops it
        CHECK   dword [CURRENT], e, 0
        cli
        mov     dword [LVT_TIMER], 0x10030

; To itself, by shorthand and by destination; priority classes hold back.
        mov     dword [log], 0
        mov     dword [log_at], log
        mov     dword [TPR], 0x30
        mov     dword [ICR], 0x40038    ; self
        CHECK   dword [IRR + 0x10], e, 0x01000000       ; vector 0x38: bit 24 of 0x20 to 0x3F
        sti
        mov     ecx, 100
.held:  in      al, 0x80
        dec     ecx
        jnz     .held
        CHECK   dword [log], e, 0
        mov     dword [TPR], 0x20
        AWAIT_MEMORY dword [log], ne, 0
        CHECK   dword [log], e, 0x38
        mov     dword [ICR_HIGH], 0
        mov     dword [ICR], 0x0403F    ; physical destination 0
        AWAIT_MEMORY dword [log], e, 0x3F38
        mov     dword [ICR_HIGH], 0x01000000
        mov     dword [ICR], 0x04838    ; logical destination 1
        AWAIT_MEMORY dword [log], e, 0x383F38
        cli
; Two at once: the higher vector first; both in class 3, so the first is ended before the second.
        mov     dword [log], 0
        mov     dword [log_at], log
        mov     dword [ICR], 0x40038
        mov     dword [ICR], 0x4003F
        sti
        AWAIT_MEMORY dword [log], e, 0x383F
        cli
        CHECK   dword [ISR + 0x10], e, 0
        CHECK   dword [IRR + 0x10], e, 0

; Vectors below 16 are errors.
        mov     dword [ESR], 0
        mov     dword [ICR], 0x40005
        mov     dword [ESR], 0
        mov     eax, [ESR]
        test    eax, 0x60
        CHECK_FLAG nz
        PASS

first:  inc     dword [count]
        mov     dword [EOI], 0
        iret
second: mov     eax, 0x38
        jmp     note
third:  mov     eax, 0x3F
note:   mov     edx, [log_at]
        mov     [edx], al
        inc     dword [log_at]
        mov     dword [EOI], 0
        iret

count:  dd      0
log_at: dd      log
log:    dd      0, 0
