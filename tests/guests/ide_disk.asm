; IDE with a disk of 1 MiB whose first sector says VITRINE: IDENTIFY, PIO and bus master transfers, IRQ 14.
; Sources: ATA/ATAPI-6; Intel 82371SB datasheet, bus master IDE.

%include "report.inc"
%include "ide.inc"

SECTORS equ 2048
BUFFER  equ 0x1000
BACK    equ 0x1200
PRD     equ 0x1400

        REAL_MODE_START
        PIC_START
        REAL_VECTOR 0x2E, interrupt
        OUT8    0x21, 0xFB
        OUT8    0xA1, 0xBF
        OUT8    0x3F6, 0x00
        sti
        OUT8    0x1F6, 0xA0
        OUT8    0x1F7, 0xEC
        AWAIT_MEMORY byte [interrupts], e, 1
        AWAIT_DATA
        mov     di, BUFFER
        mov     cx, 256
        mov     dx, 0x1F0
        rep     insw
        CHECK   word [BUFFER], e, 0x0040
        CHECK   dword [BUFFER + 120], e, SECTORS
        test    word [BUFFER + 98], 0x0200
        CHECK_FLAG nz                   ; LBA

; Sector 0 by PIO.
        SELECT  0, 1
        OUT8    0x1F7, 0x20
        AWAIT_MEMORY byte [interrupts], e, 2
        AWAIT_DATA
        mov     di, BUFFER
        mov     cx, 256
        mov     dx, 0x1F0
        rep     insw
        AWAIT_IDLE
        CHECK   dword [BUFFER], e, 'VITR'
        CHECK   dword [BUFFER + 4], e, 'INE'

; Write sector 5, read it back by bus master.
        mov     byte [interrupts], 0
        mov     dword [BUFFER], 0xFEEDC0DE
        SELECT  5, 1
        OUT8    0x1F7, 0x30
        AWAIT_DATA
        mov     si, BUFFER
        mov     cx, 256
        mov     dx, 0x1F0
        rep     outsw
        AWAIT_MEMORY byte [interrupts], e, 1
        AWAIT_IDLE
        CONFIG  0x20, MASTER
        CONFIG  0x04, 5                 ; I/O and bus master
        mov     dword [PRD], BACK
        mov     dword [PRD + 4], 0x80000200
        mov     eax, PRD
        mov     dx, MASTER + 4
        out     dx, eax
        OUT8    MASTER + 2, 0x06        ; clear interrupt and error
        OUT8    MASTER, 0x08            ; to memory
        SELECT  5, 1
        OUT8    0x1F7, 0xC8             ; READ DMA
        OUT8    MASTER, 0x09
        AWAIT_MEMORY byte [interrupts], e, 2
        IN8     MASTER + 2
        and     al, 0x07
        CHECK   al, e, 0x04             ; interrupt, no error, done
        OUT8    MASTER, 0x08
        mov     si, BUFFER
        mov     di, BACK
        mov     cx, 128
        repe    cmpsd
        CHECK_FLAG e

; Beyond the end: sector not found.
        SELECT  SECTORS, 1
        OUT8    0x1F7, 0x20
        AWAIT_IDLE
        IN8     0x1F7
        and     al, 0x01
        CHECK   al, e, 1
        IN8     0x1F1
        and     al, 0x14
        CHECK   al, ne, 0
        PASS

interrupt:
        push    ax
        push    dx
        IN8     0x1F7
        inc     byte [interrupts]
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        pop     dx
        pop     ax
        iret

interrupts:     db 0
