; ACPI: the power management timer against the 8254, then soft off. Without firmware the guest programs the block's
; base address and enables it itself. Source: Intel 82371AB datasheet, chapter 7; ACPI 6.4, 4.8.

%include "report.inc"

PM      equ 0x600

%macro CONFIG 2                         ; function 1.3: register, value
        mov     eax, 0x80000B00 | (%1)
        mov     dx, 0xCF8
        out     dx, eax
        mov     eax, %2
        mov     dx, 0xCFC
        out     dx, eax
%endmacro

        REAL_MODE_START
        CONFIG  0x40, PM | 1
        CONFIG  0x80, 1
; 24 bits at 3.579545 MHz: three times the 8254's clock. Counter 2 measures 20 ms: 23864 ticks, 71591 of the timer.
        OUT8    0x61, 0
        OUT8    0x43, 0xB0
        OUT8    0x42, 23864 & 0xFF
        OUT8    0x42, 23864 >> 8
        OUT8    0x61, 1
        mov     dx, PM + 8
        in      eax, dx
        mov     ebx, eax
        test    eax, 0xFF000000
        CHECK_FLAG z
        AWAIT   0x61, 0x20, 0x20
        mov     dx, PM + 8
        in      eax, dx
        sub     eax, ebx
        and     eax, 0xFFFFFF
        CHECK   eax, ae, 71591 - 8000   ; the gate opened before the first reading
        CHECK   eax, be, 71591 + 3000000 ; a host that was busy elsewhere makes it late, never early

; PM1: events are kept, SCI_EN is the firmware's to set.
        mov     dx, PM + 2
        mov     ax, 0x0120
        out     dx, ax
        in      ax, dx
        CHECK   ax, e, 0x0120
        mov     ax, 0
        out     dx, ax
        OUT8    0xB2, 0xF1              ; ACPI on
        mov     dx, PM + 4
        in      ax, dx
        and     ax, 1
        CHECK   ax, e, 1
        SAY     'off'
        mov     dx, PM + 4
        mov     ax, 0x2001              ; SLP_EN, SLP_TYP 0: S5
        out     dx, ax
        mov     ecx, PATIENCE
.wait:  in      al, 0x80
        dec     ecx
        jnz     .wait
        FAIL
