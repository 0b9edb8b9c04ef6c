; PCI configuration space by mechanism 1: prints the functions of bus 0 and sizes the VGA's memory.
; Source: PCI local bus specification 3.0, 3.2.2.3.2 and 6.2.5.1.

%include "report.inc"

        REAL_MODE_START
        mov     eax, 0x80000000
        mov     dx, 0xCF8
        out     dx, eax
        in      eax, dx
        CHECK   eax, e, 0x80000000      ; the mechanism is there
        xor     ebx, ebx                ; device and function, as in bits 15 to 8
.next:  mov     eax, ebx
        shl     eax, 8
        or      eax, 0x80000000
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        cmp     eax, 0xFFFFFFFF
        je      .none
        call    print
.none:  inc     ebx
        cmp     ebx, 0x100
        jb      .next

; Byte and word accesses at their places in 0xCFC to 0xCFF.
        mov     eax, 0x80000000
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFE
        in      ax, dx
        CHECK   ax, e, 0x1237
        mov     dx, 0xCFD
        in      al, dx
        CHECK   al, e, 0x80

; Base address 0 of the VGA: 16 MiB, prefetchable; then it is put to 0xE0000000 and shows memory there.
        mov     eax, 0x80001010
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        mov     eax, 0xFFFFFFFF
        out     dx, eax
        in      eax, dx
        CHECK   eax, e, 0xFF000008
        mov     eax, 0xE0000000
        out     dx, eax
        in      eax, dx
        CHECK   eax, e, 0xE0000008
        mov     eax, 0x80001000         ; read only: writes change nothing
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        xor     eax, eax
        out     dx, eax
        in      eax, dx
        CHECK   eax, e, 0x11111234
        PASS

; dd.f vendor:device, a line.
print:  push    eax
        mov     eax, ebx
        shr     eax, 3
        mov     cl, 8
        call    hex
        OUT8    0xE9, '.'
        mov     eax, ebx
        and     eax, 7
        mov     cl, 4
        call    hex
        OUT8    0xE9, ' '
        pop     eax
        push    eax
        mov     cl, 16
        call    hex
        OUT8    0xE9, ':'
        pop     eax
        shr     eax, 16
        mov     cl, 16
        call    hex
        OUT8    0xE9, 10
        ret

; The low CL bits of EAX as hexadecimal digits.
hex:    sub     cl, 4
        push    eax
        shr     eax, cl
        and     al, 0x0F
        cmp     al, 10
        sbb     al, 0x69
        das
        or      al, 0x20
        out     0xE9, al
        pop     eax
        test    cl, cl
        jnz     hex
        ret
