; The Bochs display interface: 320x240 with 32 bits a pixel, the linear framebuffer where its base address register
; puts it, and the bank at 0xA0000. The test compares the picture: pixel n is n * 0x010203 (24 bits).

%include "report.inc"
%include "protected.inc"

%macro VBE 2
        mov     dx, 0x1CE
        mov     ax, %1
        out     dx, ax
        inc     dx
        mov     ax, %2
        out     dx, ax
%endmacro
%macro VBE_IN 1
        mov     dx, 0x1CE
        mov     ax, %1
        out     dx, ax
        inc     dx
        in      ax, dx
%endmacro
%macro CONFIG 2                         ; of slot 2: register, value
        mov     eax, 0x80001000 | (%1)
        mov     dx, 0xCF8
        out     dx, eax
        mov     eax, %2
        mov     dx, 0xCFC
        out     dx, eax
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        VBE_IN  0
        CHECK   ax, ae, 0xB0C0
        CHECK   ax, be, 0xB0CF
        VBE_IN  10
        CHECK   ax, e, 256              ; 16 MiB
        VBE     4, 0
        VBE     1, 320
        VBE     2, 240
        VBE     3, 32
        VBE     4, 0x41
        VBE_IN  1
        CHECK   ax, e, 320
        VBE_IN  6
        CHECK   ax, e, 320
        CONFIG  0x10, 0xE1000000
        CONFIG  0x04, 3
        mov     edi, 0xE1000000
        mov     ecx, 320 * 240
        xor     eax, eax
.pixel: mov     ebx, eax
        and     ebx, 0xFFFFFF
        mov     [edi], ebx
        add     edi, 4
        add     eax, 0x010203
        dec     ecx
        jnz     .pixel
        CHECK   dword [0xE1000000 + 4 * 5000], e, (5000 * 0x010203) & 0xFFFFFF

; The bank at 0xA0000 shows the same memory.
        VBE     5, 1
        CHECK   dword [0xA0000], e, (16384 * 0x010203) & 0xFFFFFF
        mov     eax, [0xA0004]
        mov     dword [0xA0004], 0x55AA55
        CHECK   dword [0xE1010004], e, 0x55AA55
        mov     [0xA0004], eax
        VBE     5, 0

; The memory follows its base address register, and goes away when it is disabled.
        CONFIG  0x10, 0xE8000000
        CHECK   dword [0xE8000000 + 4 * 777], e, (777 * 0x010203) & 0xFFFFFF
        CHECK   dword [0xE1000000 + 4 * 777], e, 0xFFFFFFFF
        CONFIG  0x04, 0
        CHECK   dword [0xE8000000 + 4 * 777], e, 0xFFFFFFFF
        CONFIG  0x04, 3
        CHECK   dword [0xE8000000 + 4 * 777], e, (777 * 0x010203) & 0xFFFFFF
        PASS
