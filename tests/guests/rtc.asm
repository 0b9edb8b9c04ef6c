; MC146818: the periodic, update and alarm interrupts on IRQ 8, SET, and the CMOS bytes.
; Source: Motorola MC146818A datasheet.

%include "report.inc"

; CMOS register number, value.
%macro CMOS_OUT 2
        OUT8    0x70, %1
        OUT8    0x71, %2
%endmacro
%macro CMOS_IN 1
        OUT8    0x70, %1
        in      al, 0x71
%endmacro

        REAL_MODE_START
        PIC_START
        REAL_VECTOR 0x28, clock
        CMOS_IN 0x0D
        and     al, 0x80
        CHECK   al, e, 0x80             ; the battery is good
        CMOS_OUT 0x40, 0xA5             ; a byte of plain memory
        CMOS_IN 0x40
        CHECK   al, e, 0xA5
        CMOS_OUT 0x0B, 0x82             ; SET, BCD, 24 hours
        CMOS_OUT 0x0A, 0x76             ; divider held in reset
        CMOS_OUT 0x00, 0x58
        CMOS_OUT 0x02, 0x59
        CMOS_OUT 0x04, 0x23
        CMOS_OUT 0x07, 0x31
        CMOS_OUT 0x08, 0x12
        CMOS_OUT 0x09, 0x25
        CMOS_OUT 0x01, 0x59             ; alarm 23:59:59
        CMOS_OUT 0x03, 0x59
        CMOS_OUT 0x05, 0x23
        CMOS_IN 0x00
        CHECK   al, e, 0x58
        CMOS_IN 0x0C                    ; forgets old interrupts
        CMOS_IN 0x0C
        CHECK   al, e, 0
        OUT8    0x21, 0xFB
        OUT8    0xA1, 0xFE

; Alarm: half a second after the divider starts comes the first update, and it is 23:59:59.
        CMOS_OUT 0x0A, 0x26
        CMOS_OUT 0x0B, 0x22             ; alarm interrupt
        sti
.alarm: hlt
        cmp     byte [cause], 0
        je      .alarm
        cli
        mov     al, [cause]
        and     al, 0xB0
        CHECK   al, e, 0xB0             ; interrupt, alarm, update ended
        CMOS_IN 0x00
        CHECK   al, e, 0x59

; Periodic: 1024 a second.
        mov     byte [cause], 0
        CMOS_OUT 0x0B, 0x42
        mov     word [count], 0
        sti
.periodic:
        hlt
        cmp     word [count], 20
        jb      .periodic
        cli
        mov     al, [cause]
        and     al, 0xC0
        CHECK   al, e, 0xC0

; The second after that ends the day, and the year. The update shows up in register C without being allowed
; to interrupt.
        CMOS_OUT 0x0B, 0x02
        mov     ecx, 100 * PATIENCE     ; up to a second
.update:
        CMOS_IN 0x0C
        test    al, 0x10
        jnz     .updated
        dec     ecx
        jnz     .update
        FAIL
.updated:
        and     al, 0x80
        CHECK   al, e, 0                ; not as an interrupt
        CMOS_IN 0x00
        CHECK   al, e, 0x00
        CMOS_IN 0x02
        CHECK   al, e, 0x00
        CMOS_IN 0x04
        CHECK   al, e, 0x00
        CMOS_IN 0x07
        CHECK   al, e, 0x01
        CMOS_IN 0x08
        CHECK   al, e, 0x01
        CMOS_IN 0x09
        CHECK   al, e, 0x26
        PASS

clock:  push    ax
        CMOS_IN 0x0C
        or      [cause], al
        inc     word [count]
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        pop     ax
        iret

cause:  db      0
count:  dw      0
