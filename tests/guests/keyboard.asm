; 8042 and the PS/2 keyboard and mouse behind it: self tests, configuration, commands and their answers,
; IRQ 1 and IRQ 12. Sources: IBM PS/2 technical reference, keyboard and auxiliary device controller.

%include "report.inc"

%macro COMMAND 1
        call    ready
        OUT8    0x64, %1
%endmacro
%macro DATA 1
        call    ready
        OUT8    0x60, %1
%endmacro
; Waits for a byte and checks it.
%macro ANSWER 1
        call    answer
        CHECK   al, e, %1
%endmacro

        REAL_MODE_START
        PIC_START
        COMMAND 0xAA
        ANSWER  0x55
        COMMAND 0xAB
        ANSWER  0x00
        COMMAND 0xA9
        ANSWER  0x00
        COMMAND 0x60                    ; no interrupts, no translation
        DATA    0x00
        COMMAND 0x20
        ANSWER  0x00
        COMMAND 0xAD
        COMMAND 0x20
        ANSWER  0x10
        COMMAND 0xAE
        COMMAND 0xA7
        COMMAND 0x20
        ANSWER  0x20
        COMMAND 0xA8
        COMMAND 0xD0                    ; output port: A20 open, no reset
        call    answer
        and     al, 3
        CHECK   al, e, 3
        COMMAND 0xD2
        DATA    0x5A
        ANSWER  0x5A
        COMMAND 0xD3
        DATA    0xA5
        call    await
        in      al, 0x64
        and     al, 0x21                ; as from the mouse
        CHECK   al, e, 0x21
        in      al, 0x60
        CHECK   al, e, 0xA5

; The keyboard.
        DATA    0xFF
        ANSWER  0xFA
        ANSWER  0xAA
        DATA    0xEE
        ANSWER  0xEE
        DATA    0xF2
        ANSWER  0xFA
        ANSWER  0xAB
        ANSWER  0x83
        DATA    0xED
        ANSWER  0xFA
        DATA    0x07
        ANSWER  0xFA
        DATA    0xF0                    ; which scan code set
        ANSWER  0xFA
        DATA    0x00
        ANSWER  0xFA
        ANSWER  0x02
        DATA    0xFE                    ; resend
        ANSWER  0x02
        DATA    0xF3                    ; repeat rate
        ANSWER  0xFA
        DATA    0x20
        ANSWER  0xFA
        DATA    0x05                    ; no command
        ANSWER  0xFE

; The mouse.
        COMMAND 0xD4
        DATA    0xFF
        ANSWER  0xFA
        ANSWER  0xAA
        ANSWER  0x00
        COMMAND 0xD4
        DATA    0xF2
        ANSWER  0xFA
        ANSWER  0x00
%assign rate 200
%rep 3                                  ; the wheel's knock: 200, 100, 80
        COMMAND 0xD4
        DATA    0xF3
        ANSWER  0xFA
        COMMAND 0xD4
        DATA    rate
        ANSWER  0xFA
%if rate == 200
%assign rate 100
%else
%assign rate 80
%endif
%endrep
        COMMAND 0xD4
        DATA    0xF2
        ANSWER  0xFA
        ANSWER  0x03
        COMMAND 0xD4
        DATA    0xE9                    ; status
        ANSWER  0xFA
        ANSWER  0x00
        ANSWER  0x02
        ANSWER  80

; Interrupts.
        REAL_VECTOR 0x21, keyboard
        REAL_VECTOR 0x2C, mouse
        OUT8    0x21, 0xF9
        OUT8    0xA1, 0xEF
        COMMAND 0x60
        DATA    0x03
        sti
        DATA    0xEE
        AWAIT_MEMORY byte [from_keyboard], e, 0xEE
        COMMAND 0xD4
        DATA    0xE6
        AWAIT_MEMORY byte [from_mouse], e, 0xFA
        cli

; Translation to set 1: the keyboard's 0x1C (A) becomes 0x1E; the test types.
        COMMAND 0x60
        DATA    0x41
        mov     byte [from_keyboard], 0
        sti
        SAY     'key?'
.press: hlt
        cmp     byte [from_keyboard], 0
        je      .press
        CHECK   byte [from_keyboard], e, 0x1E
.release:
        hlt
        cmp     byte [from_keyboard], 0x1E
        je      .release
        CHECK   byte [from_keyboard], e, 0x9E
        cli
        PASS

ready:  AWAIT   0x64, 2, 0
        ret
await:  AWAIT   0x64, 1, 1
        ret
answer: call    await
        in      al, 0x60
        ret

keyboard:
        push    ax
        in      al, 0x60
        mov     [from_keyboard], al
        OUT8    0x20, 0x20
        pop     ax
        iret
mouse:  push    ax
        in      al, 0x60
        mov     [from_mouse], al
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        pop     ax
        iret

from_keyboard:  db 0
from_mouse:     db 0
