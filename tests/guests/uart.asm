; 16550A: registers, divisor latch, FIFO, loopback of data and modem lines, interrupts on IRQ 4.
; Source: National Semiconductor PC16550D datasheet.

%include "report.inc"

COM1    equ 0x3F8
DATA    equ COM1
IER     equ COM1 + 1
IIR     equ COM1 + 2
FCR     equ COM1 + 2
LCR     equ COM1 + 3
MCR     equ COM1 + 4
LSR     equ COM1 + 5
MSR     equ COM1 + 6
SCRATCH equ COM1 + 7

%macro AWAIT_LINE 2
        mov     dx, LSR
        AWAIT   dx, %1, %2
%endmacro

        REAL_MODE_START
        PIC_START
        OUT8    SCRATCH, 0x5A
        IN8     SCRATCH
        CHECK   al, e, 0x5A
        OUT8    LCR, 0x83
        OUT8    DATA, 1                 ; 115200 baud
        OUT8    IER, 0
        IN8     DATA
        CHECK   al, e, 1
        OUT8    LCR, 0x03
        IN8     LCR
        CHECK   al, e, 0x03
        OUT8    IER, 0xFF
        IN8     IER
        CHECK   al, e, 0x0F
        OUT8    IER, 0

; It really sends: the test reads this.
        mov     si, text
.send:  AWAIT_LINE 0x20, 0x20
        lodsb
        test    al, al
        jz      .sent
        mov     dx, DATA
        out     dx, al
        jmp     .send
.sent:  AWAIT_LINE 0x60, 0x60

; Loopback: data and modem control come back.
        OUT8    MCR, 0x10
        IN8     MSR
        IN8     MSR
        CHECK   al, e, 0                ; lines low, no changes
        OUT8    MCR, 0x1F
        IN8     MSR
        CHECK   al, e, 0xFB             ; CTS DSR RI DCD; RI has no change on a rising edge
        IN8     MSR
        CHECK   al, e, 0xF0
        OUT8    MCR, 0x10
        IN8     MSR
        CHECK   al, e, 0x0F             ; all fell
        OUT8    DATA, 0xA7
        AWAIT_LINE 0x01, 0x01
        IN8     DATA
        CHECK   al, e, 0xA7
        IN8     LSR
        test    al, 0x01
        CHECK_FLAG z

; FIFO.
        IN8     IIR
        CHECK   al, e, 0x01             ; nothing, no FIFO
        OUT8    FCR, 0x07
        IN8     IIR
        CHECK   al, e, 0xC1
        mov     bl, 16
.fill:  AWAIT_LINE 0x20, 0x20
        mov     al, bl
        mov     dx, DATA
        out     dx, al
        AWAIT_LINE 0x40, 0x40
        dec     bl
        jnz     .fill
        mov     bl, 16
.empty: IN8     LSR
        and     al, 0x03
        CHECK   al, e, 0x01             ; data, no overrun
        IN8     DATA
        CHECK   al, e, bl
        dec     bl
        jnz     .empty
        IN8     LSR
        test    al, 0x01
        CHECK_FLAG z

; Interrupts: identified in the order of their priority.
        OUT8    FCR, 0x00
        REAL_VECTOR 0x24, interrupt
        OUT8    IER, 0x02
        IN8     IIR
        CHECK   al, e, 0x02             ; transmitter empty
        IN8     IIR
        CHECK   al, e, 0x01             ; reading took it away
        OUT8    IER, 0x00
        OUT8    DATA, 0x11
        AWAIT_LINE 0x41, 0x41
        OUT8    MCR, 0x11               ; DSR changes
        OUT8    IER, 0x0F
        IN8     IIR
        CHECK   al, e, 0x04             ; data before transmitter and modem
        IN8     DATA
        IN8     IIR
        CHECK   al, e, 0x02
        IN8     IIR
        CHECK   al, e, 0x00             ; modem
        IN8     MSR
        IN8     IIR
        CHECK   al, e, 0x01
        OUT8    IER, 0x00
        OUT8    MCR, 0x00               ; OUT2 off: the line is cut, in loopback as well
        OUT8    0x21, 0xEF
        sti
        OUT8    MCR, 0x08
        OUT8    IER, 0x02
        AWAIT_MEMORY byte [cause], e, 0x02
        cli
        PASS

interrupt:
        push    ax
        push    dx
        IN8     IIR
        mov     [cause], al
        OUT8    0x20, 0x20
        pop     dx
        pop     ax
        iret

cause:  db      0xFF
text:   db      'Hello from the UART', 10, 0
