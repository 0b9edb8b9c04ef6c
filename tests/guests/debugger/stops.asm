; A round trip through everything a machine can be stopped at: data, a port, a call, INT, an exception, a mode change, a
; timer's interrupt, HLT. Places have fixed addresses, which the tests know (tests/tests/debugger.rs).

bits 16
org 0x7C00

start:  cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7C00
        mov     word [0x41 * 4], int41
        mov     word [0x41 * 4 + 2], ax
        mov     word [6 * 4], undefined
        mov     word [6 * 4 + 2], ax
        mov     word [0x20 * 4], timer
        mov     word [0x20 * 4 + 2], ax
        ; 8259: vectors from 0x20, IRQ 0 alone
        mov     al, 0x11
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xFE
        out     0x21, al
        ; 8254: counter 0, mode 2, 1 kHz
        mov     al, 0x34
        out     0x43, al
        mov     al, 0xA9
        out     0x40, al
        mov     al, 0x04
        out     0x40, al
        mov     bx, 0
        jmp     round

        times   0x80 - ($ - $$) db 0x90
round:  inc     word [0x500]            ; 7C80
        mov     al, bl
        out     0x80, al                ; 7C86
        call    function                ; 7C88
        int     0x41                    ; 7C8B
        ud2                             ; 7C8D
        mov     eax, cr0                ; 7C8F
        or      al, 1
        mov     cr0, eax                ; 7C94
        and     al, 0xFE
        mov     cr0, eax                ; 7C99
        sti
        hlt                             ; 7C9D
        cli
        jmp     round                   ; 7C9F

        times   0x100 - ($ - $$) db 0x90
function:                               ; 7D00
        push    bp
        mov     bp, sp
        inc     bx                      ; 7D03
        mov     cx, 4
        mov     di, 0x600
        rep     stosb                   ; 7D0A
        pop     bp
        ret

        times   0x140 - ($ - $$) db 0x90
int41:  iret                            ; 7D40

        times   0x160 - ($ - $$) db 0x90
undefined:                              ; 7D60
        push    bp
        mov     bp, sp
        add     word [bp + 2], 2
        pop     bp
        iret

        times   0x180 - ($ - $$) db 0x90
timer:  push    ax                      ; 7D80
        inc     word [0x502]
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret
