; Code that a disk writes over code that has run: by the bus master, and by port input. Sectors 1 and 2 of the disk hold
; routines (MOV EAX, imm32; RETF). Source: Intel SDM 3A, 12.6 (what devices write is coherent with what is fetched).

%include "report.inc"
%include "ide.inc"

PRD     equ 0x1400
CODE    equ 0x3000                      ; a segment

; CALLED value: the routine says so.
%macro CALLED 1
        xor     eax, eax
        call    CODE:0
        CHECK   eax, e, %1
%endmacro
; BY_MASTER sector, BY_PORT sector: to CODE:0.
%macro BY_MASTER 1
        OUT8    MASTER + 2, 0x06
        OUT8    MASTER, 0x08            ; to memory
        SELECT  %1, 1
        OUT8    0x1F7, 0xC8             ; READ DMA
        OUT8    MASTER, 0x09
        mov     dx, MASTER + 2
        AWAIT   dx, 0x07, 0x04          ; interrupt, no error, done
        OUT8    MASTER, 0x08
        AWAIT_IDLE
%endmacro
%macro BY_PORT 1
        SELECT  %1, 1
        OUT8    0x1F7, 0x20
        AWAIT_DATA
        mov     ax, CODE
        mov     es, ax
        xor     di, di
        mov     cx, 256
        mov     dx, 0x1F0
        rep     insw
        AWAIT_IDLE
%endmacro

        REAL_MODE_START
        PIC_START
        OUT8    0x3F6, 0x00             ; the bus master notes the interrupt; the 8259A is masked
        OUT8    0x1F6, 0xE0
        CONFIG  0x20, MASTER
        CONFIG  0x04, 5                 ; I/O and bus master
        mov     dword [PRD], CODE * 16
        mov     dword [PRD + 4], 0x80000200
        mov     eax, PRD
        mov     dx, MASTER + 4
        out     dx, eax
        mov     si, 20
.again: BY_PORT 1
        CALLED  0x11111111
        BY_MASTER 2
        CALLED  0x22222222
        BY_MASTER 1
        CALLED  0x11111111
        BY_PORT 2
        CALLED  0x22222222
        dec     si
        jnz     .again
        PASS
