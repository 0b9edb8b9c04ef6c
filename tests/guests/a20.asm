; The A20 gate, by port 0x92 and by the keyboard controller: closed, the second megabyte is the first.

%include "report.inc"

PROBE   equ 0x0500                      ; also FFFF:0510

        REAL_MODE_START
        mov     ax, 0xFFFF
        mov     es, ax
        in      al, 0x92
        and     al, 2
        CHECK   al, e, 2                ; open, as a BIOS leaves it

%macro CHECK_OPEN 0
        mov     word [PROBE], 0x1234
        mov     word [es:PROBE + 0x10], 0x5678
        CHECK   word [PROBE], e, 0x1234
        CHECK   word [es:PROBE + 0x10], e, 0x5678
%endmacro
%macro CHECK_CLOSED 0
        mov     word [PROBE], 0x1234
        CHECK   word [es:PROBE + 0x10], e, 0x1234
        mov     word [es:PROBE + 0x10], 0x5678
        CHECK   word [PROBE], e, 0x5678
%endmacro

        CHECK_OPEN
        OUT8    0x92, 0
        CHECK_CLOSED
        ; Code runs through the wrap as well: a routine copied to PROBE, called in the second megabyte.
        mov     dword [PROBE], 0xCB03B0 ; mov al, 3; retf
        call    0xFFFF:PROBE + 0x10
        CHECK   al, e, 3
        mov     byte [PROBE + 1], 4     ; changed under its alias
        call    0xFFFF:PROBE + 0x10
        CHECK   al, e, 4
        OUT8    0x92, 2
        CHECK_OPEN
        mov     dword [es:PROBE + 0x10], 0xCB05B0
        mov     dword [PROBE], 0xCB06B0
        call    0xFFFF:PROBE + 0x10
        CHECK   al, e, 5

; The keyboard controller.
        call    ready
        OUT8    0x64, 0xD1
        call    ready
        OUT8    0x60, 0xDD              ; A20 low, no reset
        call    ready
        CHECK_CLOSED
        OUT8    0x64, 0xD1
        call    ready
        OUT8    0x60, 0xDF
        call    ready
        CHECK_OPEN
        in      al, 0x92
        and     al, 2
        CHECK   al, e, 2                ; one gate

; The commands DD and DF do it too.
        OUT8    0x64, 0xDD
        call    ready
        CHECK_CLOSED
        OUT8    0x64, 0xDF
        call    ready
        CHECK_OPEN
        PASS

ready:  AWAIT   0x64, 2, 0
        ret
