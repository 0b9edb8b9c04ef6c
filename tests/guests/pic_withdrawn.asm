; 8259A: an edge-triggered request whose line falls before it is acknowledged goes away, and a poll with nothing
; requested says so. Source: Intel 8259A datasheet (231468-003), "interrupt request register" and "poll command".

%include "report.inc"

        REAL_MODE_START
        OUT8    0x43, 0x30              ; the timer's output low
        PIC_START
        REAL_VECTOR 0x20, timer
        REAL_VECTOR 0x27, spurious
        OUT8    0x43, 0x30
        OUT8    0x40, 60
        OUT8    0x40, 0
        mov     ecx, PATIENCE
.wait:  OUT8    0x43, 0xE2
        in      al, 0x40
        test    al, 0x80
        jnz     .up
        dec     ecx
        jnz     .wait
        FAIL
.up:    OUT8    0x20, 0x0A
        in      al, 0x20
        and     al, 1
        CHECK   al, e, 1
        OUT8    0x43, 0x30              ; falls before it is acknowledged
        OUT8    0x20, 0x0A
        in      al, 0x20
        and     al, 1
        CHECK   al, e, 0
        OUT8    0x21, 0x7E
        sti
        mov     cx, 1000
.give:  in      al, 0x80
        loop    .give
        cli
        CHECK   byte [timers], e, 0
        OUT8    0x20, 0x0B
        in      al, 0x20
        CHECK   al, e, 0
; Poll with nothing requested says so and leaves nothing in service.
        OUT8    0x20, 0x0C
        in      al, 0x20
        test    al, 0x80
        CHECK_FLAG z
        OUT8    0x20, 0x0B
        in      al, 0x20
        CHECK   al, e, 0
        PASS

timer:  inc     byte [timers]
        iret
spurious:
        inc     byte [spurious_interrupts]
        iret

timers:         db 0
spurious_interrupts: db 0
