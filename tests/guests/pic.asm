; 8259A pair: mask, request and service registers, priorities, end of interrupt, rotation, automatic EOI,
; poll, cascade. Source: Intel 8259A datasheet (231468-003).
;
; The 8254 (IRQ 0) and the keyboard controller (IRQ 1, IRQ 12) are made to interrupt by their ports.

%include "report.inc"

; Reads the request or service register of a chip into AL.
%macro REQUESTS 1
        OUT8    %1, 0x0A
        in      al, %1
%endmacro
%macro SERVICE 1
        OUT8    %1, 0x0B
        in      al, %1
%endmacro

; A rising edge on IRQ 0: mode 0 lowers the output, a short count raises it.
%macro RAISE_TIMER 0
        OUT8    0x43, 0x30
        OUT8    0x40, 60
        OUT8    0x40, 0
        call    await_timer
%endmacro

; A byte in the output buffer: IRQ 1.
%macro RAISE_KEYBOARD 0
        OUT8    0x64, 0xD2
        call    controller_ready
        OUT8    0x60, 0x55
%endmacro

        REAL_MODE_START
        call    controller_ready
        OUT8    0x64, 0x60              ; interrupts of keyboard and mouse on, translation off
        call    controller_ready
        OUT8    0x60, 0x03
        call    controller_ready
        OUT8    0x43, 0x30              ; the timer's output low
        PIC_START
        REAL_VECTOR 0x20, timer
        REAL_VECTOR 0x21, keyboard
        REAL_VECTOR 0x2C, mouse
        REAL_VECTOR 0x27, spurious
        REAL_VECTOR 0x2F, spurious

; The mask register reads back; masked requests are latched and not delivered.
        OUT8    0x21, 0xA5
        in      al, 0x21
        CHECK   al, e, 0xA5
        OUT8    0x21, 0xFF
        REQUESTS 0x20
        and     al, 3
        CHECK   al, e, 0
        RAISE_TIMER
        sti
        mov     cx, 100
.masked:
        in      al, 0x80
        loop    .masked
        CHECK   word [log_end], e, log
        cli
        REQUESTS 0x20
        and     al, 1
        CHECK   al, e, 1
        SERVICE 0x20
        CHECK   al, e, 0

; Unmasked it is delivered; in service until its EOI.
        mov     byte [timer_eoi], 0
        OUT8    0x21, 0xFC
        sti
        AWAIT_MEMORY byte [log], e, 'T'
        SERVICE 0x20
        CHECK   al, e, 1
        REQUESTS 0x20
        test    al, 1
        CHECK_FLAG z
        RAISE_KEYBOARD                  ; lower priority: waits
        AWAIT   0x64, 1, 1
        mov     cx, 100
.waits: in      al, 0x80
        loop    .waits
        CHECK   byte [log + 1], e, 0
        REQUESTS 0x20
        and     al, 2
        CHECK   al, e, 2
        OUT8    0x20, 0x20              ; non-specific EOI of the timer
        AWAIT_MEMORY byte [log + 1], e, 'K'
        SERVICE 0x20
        CHECK   al, e, 0

; Higher priority interrupts a handler that allows it.
        call    clear_log
        mov     byte [nest], 1
        RAISE_KEYBOARD                  ; its handler raises the timer
        AWAIT_MEMORY byte [log + 2], ne, 0
        cli
        CHECK   dword [log], e, 'KTk'
        mov     byte [nest], 0
        OUT8    0x20, 0x60              ; specific EOI of IRQ 0
        SERVICE 0x20
        CHECK   al, e, 0

; Set priority: IRQ 0 lowest. Then a keyboard interrupt in service holds the timer off.
        call    clear_log
        OUT8    0x20, 0xC0
        mov     byte [nest], 1
        mov     byte [timer_eoi], 1
        sti
        RAISE_KEYBOARD
        AWAIT_MEMORY byte [log + 2], ne, 0
        cli
        CHECK   dword [log], e, 'KkT'
        mov     byte [nest], 0

; Rotate on specific EOI, back to normal: IRQ 7 lowest.
        OUT8    0x20, 0xC7
        call    clear_log
        sti
        mov     byte [timer_eoi], 0
        RAISE_TIMER
        AWAIT_MEMORY byte [log], e, 'T'
        OUT8    0x20, 0xE0              ; rotate on specific EOI: IRQ 0 becomes the lowest
        mov     byte [timer_eoi], 1
        cli
        call    clear_log
        OUT8    0x21, 0xFF
        RAISE_KEYBOARD
        AWAIT   0x64, 1, 1
        RAISE_TIMER
        OUT8    0x21, 0xFC
        sti
        AWAIT_MEMORY byte [log + 1], ne, 0
        cli
        CHECK   word [log], e, 'KT'
        OUT8    0x20, 0xC7
        call    clear_log
        OUT8    0x21, 0xFF
        RAISE_KEYBOARD
        AWAIT   0x64, 1, 1
        RAISE_TIMER
        OUT8    0x21, 0xFC
        sti
        AWAIT_MEMORY byte [log + 1], ne, 0
        cli
        CHECK   word [log], e, 'TK'

; Special mask mode: masking the one in service lets lower ones through.
        call    clear_log
        mov     byte [timer_eoi], 0
        sti
        RAISE_TIMER
        AWAIT_MEMORY byte [log], e, 'T'
        cli
        OUT8    0x21, 0xFD              ; mask IRQ 0
        OUT8    0x20, 0x68
        sti
        RAISE_KEYBOARD
        AWAIT_MEMORY byte [log + 1], e, 'K'
        cli
        OUT8    0x20, 0x60
        OUT8    0x20, 0x48
        SERVICE 0x20
        CHECK   al, e, 0

; Poll: acknowledges without the processor.
        OUT8    0x21, 0xFF
        OUT8    0x20, 0x0C
        in      al, 0x20
        test    al, 0x80
        CHECK_FLAG z
        RAISE_TIMER
        OUT8    0x21, 0xFE
        OUT8    0x20, 0x0C
        in      al, 0x20
        CHECK   al, e, 0x80
        SERVICE 0x20
        CHECK   al, e, 1
        OUT8    0x20, 0x20
        SERVICE 0x20
        CHECK   al, e, 0

; The slave: both chips in service, two EOIs.
        call    clear_log
        OUT8    0x21, 0xFB
        OUT8    0xA1, 0xEF
        sti
        OUT8    0x64, 0xD3              ; a byte as from the mouse
        call    controller_ready
        OUT8    0x60, 0x66
        AWAIT_MEMORY byte [log], ne, 0
        cli
        CHECK   byte [log], e, 'M'
        CHECK   byte [in_service], e, 4
        CHECK   byte [in_service + 1], e, 0x10
        SERVICE 0x20
        CHECK   al, e, 0
        SERVICE 0xA0
        CHECK   al, e, 0

; Automatic EOI.
        call    clear_log
        OUT8    0x20, 0x11
        OUT8    0x21, 0x20
        OUT8    0x21, 0x04
        OUT8    0x21, 0x03
        OUT8    0x21, 0xFE
        sti
        RAISE_TIMER
        AWAIT_MEMORY byte [log], e, 'T'
        cli
        SERVICE 0x20
        CHECK   al, e, 0
        PASS

; Waits for the timer's output, by its status.
await_timer:
        push    ecx
        mov     ecx, PATIENCE
.wait:  OUT8    0x43, 0xE2
        in      al, 0x40
        test    al, 0x80
        jnz     .up
        dec     ecx
        jnz     .wait
        FAIL
.up:    pop     ecx
        ret

controller_ready:
        AWAIT   0x64, 2, 0
        ret

clear_log:
        mov     dword [log], 0
        mov     word [log_end], log
        ret

; AL to the log.
put:    push    bx
        mov     bx, [log_end]
        mov     [bx], al
        inc     word [log_end]
        pop     bx
        ret

timer:  push    ax
        mov     al, 'T'
        call    put
        cmp     byte [timer_eoi], 0
        je      .done
        OUT8    0x20, 0x20
.done:  pop     ax
        iret

keyboard:
        push    eax
        push    ecx
        mov     al, 'K'
        call    put
        in      al, 0x60
        cmp     byte [nest], 0
        je      .done
        sti
        RAISE_TIMER
        mov     cx, 200
.give:  in      al, 0x80
        loop    .give
        cli
        mov     al, 'k'
        call    put
        OUT8    0x20, 0x61
        jmp     .out
.done:  OUT8    0x20, 0x61
.out:   pop     ecx
        pop     eax
        iret

mouse:  push    ax
        SERVICE 0x20
        mov     [in_service], al
        SERVICE 0xA0
        mov     [in_service + 1], al
        in      al, 0x60
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        mov     al, 'M'
        call    put
        pop     ax
        iret

spurious:
        END     250

timer_eoi:      db 0
nest:           db 0
in_service:     db 0, 0
log_end:        dw log
log:            times 32 db 0
