; Fills an IDE disk of 1 MiB, each sector with its number, by PIO, and flushes it: every write is good.
; Source: ATA/ATAPI-6.

%include "report.inc"
%include "ide.inc"

SECTORS equ 2048
BUFFER  equ 0x1000

        REAL_MODE_START
        OUT8    0x3F6, 0x02             ; no interrupts
        xor     bx, bx
next:   mov     di, BUFFER
        mov     ax, bx
        mov     cx, 256
        rep     stosw
        OUT8    0x1F6, 0xE0
        OUT8    0x1F2, 1
        mov     dx, 0x1F3
        mov     al, bl
        out     dx, al
        inc     dx
        mov     al, bh
        out     dx, al
        OUT8    0x1F5, 0
        OUT8    0x1F7, 0x30             ; WRITE SECTORS
        AWAIT_DATA
        mov     si, BUFFER
        mov     cx, 256
        mov     dx, 0x1F0
        rep     outsw
        AWAIT_IDLE
        IN8     0x1F7
        and     al, 0x21
        CHECK   al, e, 0
        inc     bx
        cmp     bx, SECTORS
        jb      next
        OUT8    0x1F7, 0xE7             ; FLUSH CACHE
        AWAIT_IDLE
        IN8     0x1F7
        and     al, 0x21
        CHECK   al, e, 0
        PASS
