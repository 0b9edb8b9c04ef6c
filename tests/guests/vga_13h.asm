; VGA mode 13h, 320x200 in 256 colours: the palette, and a picture the test compares: pixel at offset n has colour
; n mod 256, colour i is red i / 4, green 63 - i / 4, blue i mod 64.

%include "report.inc"
        REAL_MODE_START
%include "vga.inc"

        SET_MODE MODE_13H
        mov     dx, 0x3C8
        xor     ax, ax
        out     dx, al
        inc     dx
        xor     bx, bx
.entry: mov     al, bl
        shr     al, 2
        out     dx, al
        xor     al, 63
        out     dx, al
        mov     al, bl
        and     al, 63
        out     dx, al
        inc     bl
        jnz     .entry
; The palette reads back.
        mov     dx, 0x3C7
        mov     al, 130
        out     dx, al
        mov     dx, 0x3C9
        in      al, dx
        CHECK   al, e, 32
        in      al, dx
        CHECK   al, e, 31
        in      al, dx
        CHECK   al, e, 2
        in      al, dx
        CHECK   al, e, 32               ; the next entry, 131

        mov     ax, 0xA000
        mov     es, ax
        xor     di, di
        mov     dx, 64000 / 256
.outer: mov     eax, 0x03020100
        mov     cx, 64
.inner: stosd
        add     eax, 0x04040404
        loop    .inner
        dec     dx
        jnz     .outer
        CHECK   byte [es:0x1234], e, 0x34
        CHECK   dword [es:0x4321], e, 0x24232221
; Chain 4: address bits 0 and 1 choose the plane. Without it, one plane.
        INDEXED 0x3C4, 4, 0x06
        INDEXED 0x3CE, 5, 0x00
        INDEXED 0x3CE, 4, 0x02
        CHECK   byte [es:0x1000], e, 0x02
        INDEXED 0x3CE, 4, 0x03
        CHECK   byte [es:0x1000], e, 0x03
        INDEXED 0x3C4, 4, 0x0E
        INDEXED 0x3CE, 5, 0x40
        PASS
