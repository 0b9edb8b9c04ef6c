; 8259A pair: mask, request and service registers, priorities, end of interrupt, rotation, automatic EOI,
; cascade. Source: Intel 8259A datasheet (231468-003).
;
; The 8254 (IRQ 0) and the keyboard controller (IRQ 1, IRQ 12) are made to interrupt by their ports.

%include "report.inc"
%include "pic.inc"

        PIC_GUEST_START

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
        AWAIT_TIMER
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
        AWAIT_TIMER
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
        AWAIT_TIMER
        OUT8    0x21, 0xFC
        sti
        AWAIT_MEMORY byte [log + 1], ne, 0
        cli
        CHECK   word [log], e, 'TK'

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
