; Sound Blaster 16: a tone of bytes in one DMA cycle, then words in stereo by auto-initialised DMA, with interrupts.
; Source: Sound Blaster Series Hardware Programming Guide, Creative, 1994.

%include "report.inc"

DSP     equ 0x220

; DSP_OUT value: when the DSP takes it.
%macro DSP_OUT 1
        mov     dx, DSP + 0xC
        AWAIT   dx, 0x80, 0
        OUT8    DSP + 0xC, %1
%endmacro
; DSP_IN: into AL.
%macro DSP_IN 0
        mov     dx, DSP + 0xE
        AWAIT   dx, 0x80, 0x80
        IN8     DSP + 0xA
%endmacro

        REAL_MODE_START
%include "sound/sound.inc"
        CLOCK_START
        PIC_START
        REAL_VECTOR 0x25, interrupt
        OUT8    DSP + 6, 1
        WAIT_MS 1
        OUT8    DSP + 6, 0
        DSP_IN
        CHECK   al, e, 0xAA
        DSP_OUT 0xE1
        DSP_IN
        CHECK   al, e, 4
        OUT8    DSP + 4, 0x80           ; IRQ 5, DMA 1 and 5
        OUT8    DSP + 5, 2
        OUT8    DSP + 4, 0x81
        OUT8    DSP + 5, 0x22

; 500 Hz: ten bytes up, ten down, at 10 kHz, 5000 of them at 0x20000.
        mov     ax, 0x2000
        mov     es, ax
        xor     di, di
        mov     al, 128 + 60
        mov     bx, 500
.bytes: mov     cx, 10
        rep     stosb
        xor     al, (128 + 60) ^ (128 - 60)
        dec     bx
        jnz     .bytes
        xor     ax, ax
        mov     es, ax
        WAIT_MS 100
        OUT8    0x0A, 5                 ; channel 1: single, from memory
        OUT8    0x0C, 0
        OUT8    0x0B, 0x49
        OUT8    0x02, 0
        OUT8    0x02, 0
        OUT8    0x03, (5000 - 1) & 0xFF
        OUT8    0x03, (5000 - 1) >> 8
        OUT8    0x83, 2
        OUT8    0x0A, 1
        OUT8    0x21, 0xDF              ; IRQ 5 alone
        sti
        DSP_OUT 0xD1
        DSP_OUT 0x40
        DSP_OUT 256 - 100               ; 10 kHz
        DSP_OUT 0x14
        DSP_OUT (5000 - 1) & 0xFF
        DSP_OUT (5000 - 1) >> 8
.first: hlt
        cmp     word [interrupts], 1
        jb      .first
        WAIT_MS 200

; 441 Hz in stereo: 50 samples up, 50 down, at 44.1 kHz; 4410 of them at 0x30000, in two blocks of 50 ms.
        SQUARE  0x3000, 100, 88
        OUT8    0xD4, 5                 ; channel 5: single, from memory, over and over
        OUT8    0xD8, 0
        OUT8    0xD6, 0x59
        OUT8    0xC4, (0x30000 >> 1) & 0xFF
        OUT8    0xC4, (0x30000 >> 9) & 0xFF
        OUT8    0xC6, (8800 - 1) & 0xFF
        OUT8    0xC6, (8800 - 1) >> 8
        OUT8    0x8B, 3
        OUT8    0xD4, 1
        mov     word [interrupts], 0
        DSP_OUT 0x41
        DSP_OUT 44100 >> 8
        DSP_OUT 44100 & 0xFF
        DSP_OUT 0xB6
        DSP_OUT 0x30
        DSP_OUT (4400 - 1) & 0xFF
        DSP_OUT (4400 - 1) >> 8
.more:  hlt
        cmp     word [interrupts], 8
        jb      .more
        DSP_OUT 0xD9                    ; end with the block that is played now
.last:  hlt
        cmp     word [interrupts], 9
        jb      .last
        WAIT_MS 200
        CHECK   word [interrupts], e, 9
        PASS

interrupt:
        push    ax
        push    dx
        inc     word [interrupts]
        IN8     DSP + 0xE
        IN8     DSP + 0xF
        OUT8    0x20, 0x20
        pop     dx
        pop     ax
        iret
interrupts:
        dw      0
