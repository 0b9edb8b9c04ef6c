; VGA mode 12h: map mask, latches, the four write modes, both read modes. Then a picture the test compares: pixel
; (x, y) of the first 64 lines has colour (x / 8 + y) mod 16, all others have colour 0.
; Source: IBM PS/2 technical reference, graphics controller.

%include "report.inc"
        REAL_MODE_START
%include "vga.inc"

%macro MAP_MASK 1
        INDEXED 0x3C4, 2, %1
%endmacro
%macro GRAPHICS 2
        INDEXED 0x3CE, %1, %2
%endmacro
; PLANES a, b, c, d: checks what byte 0 holds in planes 0 to 3.
%macro PLANES 4
        GRAPHICS 5, 0
        GRAPHICS 4, 0
        CHECK   byte [es:0], e, %1
        GRAPHICS 4, 1
        CHECK   byte [es:0], e, %2
        GRAPHICS 4, 2
        CHECK   byte [es:0], e, %3
        GRAPHICS 4, 3
        CHECK   byte [es:0], e, %4
        GRAPHICS 4, 0
%endmacro

        SET_MODE MODE_12H
        mov     ax, 0xA000
        mov     es, ax

; Map mask.
        MAP_MASK 0x0F
        mov     byte [es:0], 0
        MAP_MASK 0x01
        mov     byte [es:0], 0x11
        MAP_MASK 0x06
        mov     byte [es:0], 0x26
        PLANES  0x11, 0x26, 0x26, 0x00

; Write mode 0: set/reset, bit mask, rotation and function with the latches.
        MAP_MASK 0x0F
        GRAPHICS 0, 0x0A
        GRAPHICS 1, 0x0F
        mov     byte [es:0], 0x55       ; the value does not matter
        PLANES  0x00, 0xFF, 0x00, 0xFF
        GRAPHICS 1, 0x00
        GRAPHICS 8, 0x3C
        mov     al, [es:0]              ; loads the latches
        mov     byte [es:0], 0xF0
        PLANES  0x30, 0xF3, 0x30, 0xF3
        GRAPHICS 8, 0xFF
        GRAPHICS 3, 0x04                ; rotate right by 4
        mov     byte [es:0], 0x12
        PLANES  0x21, 0x21, 0x21, 0x21
        GRAPHICS 3, 0x08                ; AND
        mov     al, [es:0]
        mov     byte [es:0], 0x0F
        PLANES  0x01, 0x01, 0x01, 0x01
        GRAPHICS 3, 0x10                ; OR
        mov     al, [es:0]
        mov     byte [es:0], 0x80
        PLANES  0x81, 0x81, 0x81, 0x81
        GRAPHICS 3, 0x18                ; XOR
        mov     al, [es:0]
        mov     byte [es:0], 0xFF
        PLANES  0x7E, 0x7E, 0x7E, 0x7E
        GRAPHICS 3, 0x00

; Write mode 1: the latches.
        MAP_MASK 0x01
        mov     byte [es:0], 0x9A
        MAP_MASK 0x08
        mov     byte [es:0], 0xBC
        MAP_MASK 0x0F
        mov     byte [es:5], 0
        GRAPHICS 5, 1
        mov     al, [es:0]
        mov     byte [es:5], 0x00
        mov     al, [es:5]
        mov     byte [es:0], 0x00
        PLANES  0x9A, 0x7E, 0x7E, 0xBC

; Write mode 2: a colour, under the bit mask.
        GRAPHICS 5, 2
        GRAPHICS 8, 0x0F
        mov     al, [es:0]
        mov     byte [es:0], 0x05
        PLANES  0x9F, 0x70, 0x7F, 0xB0
        GRAPHICS 8, 0xFF

; Write mode 3: set/reset under value AND bit mask.
        GRAPHICS 0, 0x03
        GRAPHICS 8, 0xF0
        GRAPHICS 5, 3
        mov     al, [es:0]
        mov     byte [es:0], 0xCC
        PLANES  0xDF, 0xF0, 0x3F, 0x30
        GRAPHICS 8, 0xFF
        GRAPHICS 0, 0x00

; Read mode 1: colour compare.
        GRAPHICS 5, 2
        mov     byte [es:0], 0x06
        GRAPHICS 5, 0x08
        GRAPHICS 2, 0x06
        GRAPHICS 7, 0x0F
        CHECK   byte [es:0], e, 0xFF
        GRAPHICS 2, 0x07
        CHECK   byte [es:0], e, 0x00
        GRAPHICS 7, 0x0E                ; plane 0 does not care
        CHECK   byte [es:0], e, 0xFF
        GRAPHICS 7, 0x0F

; Words: byte by byte.
        GRAPHICS 5, 0
        MAP_MASK 0x0F
        mov     dword [es:8], 0x44332211
        CHECK   dword [es:8], e, 0x44332211
        CHECK   byte [es:10], e, 0x33

; The picture.
        xor     di, di
        xor     eax, eax
        mov     cx, 80 * 480 / 4
        rep     stosd
        GRAPHICS 5, 2
        xor     di, di
        xor     bx, bx                  ; line
.line:  mov     cx, 80
        mov     al, bl
.byte:  stosb
        inc     al
        loop    .byte
        inc     bx
        cmp     bx, 64
        jb      .line
        GRAPHICS 5, 0

; The palette: bits 0 to 2 are red, green, blue; bit 3 inverts them.
        mov     dx, 0x3C8
        xor     ax, ax
        out     dx, al
        inc     dx
        xor     bx, bx
.entry: mov     ah, bl
        test    bl, 8
        jz      .plain
        not     ah
.plain: mov     cx, 3
.part:  shr     ah, 1
        sbb     al, al
        and     al, 0x3F
        out     dx, al
        loop    .part
        inc     bx
        cmp     bx, 16
        jb      .entry
        PASS
