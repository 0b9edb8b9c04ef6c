; 8254: modes, read-back, latches, BCD, the gate and output of counter 2 (port 0x61), interrupts of counter 0.
; Source: Intel 8254 datasheet (231164-005).

%include "report.inc"

CONTROL equ 0x43
PORT_B  equ 0x61

; Status of counter 2 to AL.
%macro STATUS2 0
        OUT8    CONTROL, 0xE8
        in      al, 0x42
%endmacro

; Latches and reads counter 2 to AX.
%macro COUNT2 0
        OUT8    CONTROL, 0x80
        call    read2
%endmacro

; Counter 2: control word for a mode, low then high byte, binary.
%macro MODE2 1
        OUT8    CONTROL, 0xB0 | (%1) << 1
%endmacro

%macro LOAD2 1
        OUT8    0x42, (%1) & 0xFF
        OUT8    0x42, (%1) >> 8
%endmacro

%macro GATE2 1
        OUT8    PORT_B, %1
%endmacro

; Waits until the count is loaded (null count, status bit 6, falls).
%macro AWAIT_LOADED 0
        mov     ecx, PATIENCE
%%wait: STATUS2
        test    al, 0x40
        jz      %%good
        dec     ecx
        jnz     %%wait
        FAIL
%%good:
%endmacro

        REAL_MODE_START
        GATE2   0

; Status: output, null count, access, mode, BCD.
%assign mode 0
%rep 6
        MODE2   mode
        STATUS2
%if mode == 0
        CHECK   al, e, 0x70             ; output low, null count
%else
        CHECK   al, e, 0xF0 | mode << 1 ; output high, null count
%endif
%assign mode mode + 1
%endrep
        OUT8    CONTROL, 0xB1           ; BCD
        STATUS2
        CHECK   al, e, 0x71
        OUT8    CONTROL, 0x96           ; low byte only, mode 3
        STATUS2
        CHECK   al, e, 0xD6
        OUT8    CONTROL, 0xA4           ; high byte only, mode 2
        STATUS2
        CHECK   al, e, 0xE4

; Mode 0: the gate holds the count; the output rises at the end and stays.
        MODE2   0
        LOAD2   0x1000
        AWAIT_LOADED
        in      al, PORT_B
        and     al, 0x20
        CHECK   al, e, 0
        COUNT2
        CHECK   ax, e, 0x1000
        COUNT2
        CHECK   ax, e, 0x1000
        GATE2   1
        AWAIT   PORT_B, 0x20, 0x20
        COUNT2
        CHECK   ax, ne, 0x1000          ; goes on below zero
        AWAIT   PORT_B, 0x20, 0x20
        LOAD2   0xFFFF                  ; a new count lowers it again
        AWAIT   PORT_B, 0x20, 0x00
        AWAIT_LOADED
        COUNT2
        mov     bx, ax
        mov     cx, 100
.down:  COUNT2
        CHECK   ax, be, bx              ; 55 ms are not over
        mov     bx, ax
        loop    .down
        GATE2   0
        COUNT2
        mov     bx, ax
        mov     cx, 100
.held:  COUNT2
        CHECK   ax, e, bx
        loop    .held

; Mode 1: a rising gate starts the pulse.
        MODE2   1
        LOAD2   0x2000
        in      al, PORT_B
        and     al, 0x20
        CHECK   al, e, 0x20
        GATE2   1
        AWAIT   PORT_B, 0x20, 0x00
        GATE2   0                       ; has no effect on the pulse
        AWAIT   PORT_B, 0x20, 0x20

; Mode 2: counts from N to 1, over and over; a low gate raises the output and stops it.
        MODE2   2
        LOAD2   300
        GATE2   1
        AWAIT_LOADED
        mov     cx, 2000
        xor     si, si                  ; times it was reloaded
        mov     bx, 300
.rate:  COUNT2
        CHECK   ax, be, 300
        CHECK   ax, ne, 0
        cmp     ax, bx
        jbe     .same
        inc     si
.same:  mov     bx, ax
        loop    .rate
        CHECK   si, ae, 2
        GATE2   0
        in      al, PORT_B
        and     al, 0x20
        CHECK   al, e, 0x20
        COUNT2
        mov     bx, ax
        COUNT2
        CHECK   ax, e, bx
        GATE2   1                       ; starts from N again
        AWAIT   PORT_B, 0x20, 0x20

; Mode 3: both halves are seen, counts are even.
        MODE2   3
        LOAD2   0x4000
        GATE2   1
        AWAIT   PORT_B, 0x20, 0x20
        AWAIT   PORT_B, 0x20, 0x00
        AWAIT   PORT_B, 0x20, 0x20
        mov     cx, 200
.even:  COUNT2
        test    al, 1
        CHECK_FLAG z
        CHECK   ax, be, 0x4000
        loop    .even
        GATE2   0
        AWAIT   PORT_B, 0x20, 0x20

; Mode 4: one low clock at the end, no reload: the count goes on from 0xFFFF.
        MODE2   4
        LOAD2   0x0400
        GATE2   1
        AWAIT_LOADED
        mov     ecx, PATIENCE
.under: COUNT2
        cmp     ax, 0x8000
        ja      .wrapped
        dec     ecx
        jnz     .under
        FAIL
.wrapped:
        AWAIT   PORT_B, 0x20, 0x20

; Mode 5: nothing happens before the gate rises, then as mode 4.
        GATE2   0
        MODE2   5
        LOAD2   0x0400
        in      al, PORT_B
        and     al, 0x20
        CHECK   al, e, 0x20
        STATUS2
        and     al, 0x40
        CHECK   al, e, 0x40             ; not loaded before the trigger
        GATE2   1
        AWAIT_LOADED
        mov     ecx, PATIENCE
.five:  COUNT2
        cmp     ax, 0x8000
        ja      .wrapped5
        dec     ecx
        jnz     .five
        FAIL
.wrapped5:

; A latch holds until it is read; a second one is ignored.
        MODE2   2
        LOAD2   0
        AWAIT_LOADED
        COUNT2
        OUT8    CONTROL, 0x80
        mov     cx, 50
.pass:  in      al, PORT_B
        loop    .pass
        OUT8    CONTROL, 0x80           ; ignored
        call    read2
        mov     bx, ax
        COUNT2
        CHECK   ax, ne, bx
        ; Read-back latches count and status of several counters; the status comes first.
        OUT8    CONTROL, 0xC8
        in      al, 0x42
        and     al, 0x3F
        CHECK   al, e, 0x34
        call    read2
        mov     bx, ax
        call    read2                   ; no latch any more: live
        CHECK   ax, ne, 0

; BCD counts have decimal digits only and 0 means 10000.
        OUT8    CONTROL, 0xB5           ; mode 2, BCD
        LOAD2   0
        AWAIT_LOADED
        mov     cx, 100
.bcd:   COUNT2
        mov     si, 4
.digit: mov     dl, al
        and     dl, 0x0F
        CHECK   dl, be, 9
        shr     ax, 4
        dec     si
        jnz     .digit
        loop    .bcd

; One byte only.
        OUT8    CONTROL, 0x94           ; low byte, mode 2
        OUT8    0x42, 0x40
        AWAIT_LOADED
        mov     cx, 100
.low:   OUT8    CONTROL, 0x80
        in      al, 0x42
        CHECK   al, be, 0x40
        CHECK   al, ne, 0
        loop    .low
        OUT8    CONTROL, 0xA4           ; high byte, mode 2
        OUT8    0x42, 0x10
        AWAIT_LOADED
        mov     cx, 100
.high:  OUT8    CONTROL, 0x80
        in      al, 0x42
        CHECK   al, be, 0x10
        loop    .high

; Bits 0, 1 and 4 of port 0x61.
        GATE2   3
        in      al, PORT_B
        and     al, 3
        CHECK   al, e, 3
        GATE2   0
        in      al, PORT_B
        and     al, 3
        CHECK   al, e, 0
        AWAIT   PORT_B, 0x10, 0x10
        AWAIT   PORT_B, 0x10, 0x00

; Counter 0 interrupts: five ticks of 5 ms in mode 2, one single in mode 0.
        PIC_START
        REAL_VECTOR 0x20, tick
        OUT8    CONTROL, 0x34
        OUT8    0x40, 5966 & 0xFF
        OUT8    0x40, 5966 >> 8
        OUT8    0x21, 0xFE
        sti
.ticks: hlt
        cmp     word [ticks], 5
        jb      .ticks
        cli
        mov     word [ticks], 0
        OUT8    CONTROL, 0x30
        OUT8    0x20, 0x20
        OUT8    0x40, 5966 & 0xFF
        OUT8    0x40, 5966 >> 8
        sti
        AWAIT_MEMORY word [ticks], ae, 1
        mov     cx, 2000
.single:
        in      al, 0x80
        loop    .single
        CHECK   word [ticks], be, 2     ; one may have been on its way from mode 2
        PASS

read2:  in      al, 0x42
        mov     ah, al
        in      al, 0x42
        xchg    al, ah
        ret

tick:   push    ax
        inc     word [ticks]
        OUT8    0x20, 0x20
        pop     ax
        iret

ticks:  dw      0
