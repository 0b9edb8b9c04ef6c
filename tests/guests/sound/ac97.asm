; AC'97: five buffers of 100 ms from a list, 480 Hz, each with an interrupt.
; Source: Intel 82801AA datasheet (290655), chapter 13; Audio Codec '97 revision 2.3.

%include "report.inc"

CARD    equ 4 << 3                      ; slot 4
BRIDGE  equ 1 << 3
MIXER   equ 0xD000
MASTER  equ 0xD400
LIST    equ 0x6000

%macro OUT16 2
        mov     ax, %2
        mov     dx, %1
        out     dx, ax
%endmacro

        REAL_MODE_START
%include "sound/sound.inc"
        CLOCK_START
        PIC_START
        REAL_VECTOR 0x2A, interrupt     ; IRQ 10
        CONFIG  BRIDGE, 0x60, 0x0A0A0A0A
        OUT8    0x4D1, 4                ; IRQ 10 by level
        CONFIG  CARD, 0x10, MIXER
        CONFIG  CARD, 0x14, MASTER
        CONFIG  CARD, 0x04, 5
        mov     eax, 0x80000000 | CARD << 8
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        CHECK   eax, e, 0x24158086
        mov     dx, MASTER + 0x30
        in      eax, dx
        and     eax, 0x100
        CHECK   eax, e, 0x100           ; the codec is ready
        OUT16   MIXER + 0x02, 0x0000    ; as loud as it came
        OUT16   MIXER + 0x18, 0x0808
        SQUARE  0x2000, 100, 96         ; 50 samples up, 50 down, at 48 kHz: 480 Hz
        mov     di, LIST
        mov     cx, 5
.list:  mov     dword [di], 0x20000
        mov     dword [di + 4], 0x80000000 | 9600
        add     di, 8
        loop    .list
        mov     eax, LIST
        mov     dx, MASTER + 0x10
        out     dx, eax
        OUT8    MASTER + 0x15, 4
        WAIT_MS 100
        OUT8    0x21, 0xFB              ; IRQ 2 and 10
        OUT8    0xA1, 0xFB
        sti
        OUT8    MASTER + 0x1B, 0x1D
.more:  hlt
        cmp     word [interrupts], 5
        jb      .more
        IN8     MASTER + 0x16
        and     al, 3
        CHECK   al, e, 3                ; halted at the last
        WAIT_MS 200
        CHECK   word [interrupts], e, 5
        PASS

interrupt:
        push    ax
        push    dx
        inc     word [interrupts]
        OUT16   MASTER + 0x16, 0x1C
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        pop     dx
        pop     ax
        iret
interrupts:
        dw      0
