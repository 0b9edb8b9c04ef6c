; 8237A pair: addresses, counts, the byte pointer, pages, masks, status. Source: 8237A datasheet (231466).

%include "report.inc"

; WORD_OUT port, value: low byte, high byte.
%macro WORD_OUT 2
        OUT8    %1, (%2) & 0xFF
        OUT8    %1, (%2) >> 8
%endmacro
; WORD_IN port: to AX.
%macro WORD_IN 1
        in      al, %1
        mov     ah, al
        in      al, %1
        xchg    al, ah
%endmacro

        REAL_MODE_START
        OUT8    0x0D, 0                 ; master clear
        OUT8    0x0C, 0
%assign channel 0
%rep 4
        WORD_OUT 2 * channel, 0x1230 + channel
        WORD_OUT 2 * channel + 1, 0x5670 + channel
%assign channel channel + 1
%endrep
%assign channel 0
%rep 4
        WORD_IN 2 * channel
        CHECK   ax, e, 0x1230 + channel
        WORD_IN 2 * channel + 1
        CHECK   ax, e, 0x5670 + channel
%assign channel channel + 1
%endrep
        in      al, 0x00                ; low byte: the pointer is now at the high one
        CHECK   al, e, 0x30
        OUT8    0x0C, 0                 ; clear byte pointer
        WORD_IN 0x00
        CHECK   ax, e, 0x1230
        OUT8    0x00, 0x77
        OUT8    0x0D, 0                 ; master clear resets the pointer too
        in      al, 0x00
        CHECK   al, e, 0x77
        OUT8    0x0C, 0

; The second controller, at even ports.
        OUT8    0xDA, 0
        OUT8    0xD8, 0
%assign channel 4
%rep 4
        WORD_OUT 0xC0 + 4 * (channel - 4), 0x4320 + channel
        WORD_OUT 0xC2 + 4 * (channel - 4), 0x8760 + channel
%assign channel channel + 1
%endrep
%assign channel 4
%rep 4
        WORD_IN 0xC0 + 4 * (channel - 4)
        CHECK   ax, e, 0x4320 + channel
        WORD_IN 0xC2 + 4 * (channel - 4)
        CHECK   ax, e, 0x8760 + channel
%assign channel channel + 1
%endrep

; Pages: each its own register.
%assign page 0x81
%rep 15
        OUT8    page, page ^ 0xFF
%assign page page + 1
%endrep
%assign page 0x81
%rep 15
        in      al, page
        CHECK   al, e, page ^ 0xFF
%assign page page + 1
%endrep

; Requests of channels whose device does not ask stay away; terminal counts are cleared by reading.
        in      al, 0x08
        in      al, 0x08
        and     al, 0x0F
        CHECK   al, e, 0
        OUT8    0xD6, 0xC0              ; channel 4 carries the first controller
        OUT8    0xD4, 0x00
        PASS
