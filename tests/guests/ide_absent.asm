; IDE without a disk: nobody answers on the first channel, the CD drive tells what it is on the second.
; Source: ATA/ATAPI-6, 8.15, 8.16 and 9.12.

%include "report.inc"

        REAL_MODE_START
; First channel: neither drive ever becomes busy or ready.
%assign drive 0
%rep 2
        OUT8    0x1F6, 0xA0 | drive << 4
        OUT8    0x1F7, 0xEC
        IN8     0x1F7
        and     al, 0x89                ; BSY, DRQ, ERR
        CHECK   al, e, 0
        IN8     0x1F7
        and     al, 0x40                ; DRDY
        CHECK   al, e, 0
%assign drive drive + 1
%endrep

; Second channel: IDENTIFY DEVICE is aborted with the packet signature.
        OUT8    0x176, 0xA0
        OUT8    0x177, 0xEC
        mov     dx, 0x177
        AWAIT   dx, 0x80, 0
        IN8     0x177
        and     al, 0x09
        CHECK   al, e, 0x01             ; error, no data
        IN8     0x171
        and     al, 0x04
        CHECK   al, e, 0x04             ; aborted
        IN8     0x174
        CHECK   al, e, 0x14
        IN8     0x175
        CHECK   al, e, 0xEB
        OUT8    0x177, 0xA1             ; IDENTIFY PACKET DEVICE
        mov     dx, 0x177
        AWAIT   dx, 0x88, 0x08
        mov     di, 0x1000
        mov     cx, 256
        mov     dx, 0x170
        rep     insw
        mov     ax, [0x1000]
        and     ax, 0xDF00
        CHECK   ax, e, 0x8500           ; packet device, CD-ROM
        IN8     0x177
        and     al, 0x89
        CHECK   al, e, 0
; The other place of that channel is empty.
        OUT8    0x176, 0xB0
        OUT8    0x177, 0xA1
        IN8     0x177
        and     al, 0x89
        CHECK   al, e, 0
        PASS
