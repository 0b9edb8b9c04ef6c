; 8259A: special mask mode and the poll command. Source: Intel 8259A datasheet (231468-003).

%include "report.inc"
%include "pic.inc"

        PIC_GUEST_START
        OUT8    0x21, 0xFC

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
        AWAIT_TIMER
        OUT8    0x21, 0xFE
        OUT8    0x20, 0x0C
        in      al, 0x20
        CHECK   al, e, 0x80
        SERVICE 0x20
        CHECK   al, e, 1
        OUT8    0x20, 0x20
        SERVICE 0x20
        CHECK   al, e, 0
        PASS
