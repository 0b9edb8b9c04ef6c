; OPL3: found by its timers as the AdLib manual says, then a sine of 440 Hz for half a second.
; Source: YMF262 datasheet; AdLib Music Synthesizer Card manual, 1987.

%include "report.inc"

; FM register, value
%macro FM 2
        OUT8    0x388, %1
        OUT8    0x389, %2
%endmacro

        REAL_MODE_START
%include "sound/sound.inc"
        CLOCK_START
        FM      0x04, 0x60
        FM      0x04, 0x80
        IN8     0x388
        and     al, 0xE0
        CHECK   al, e, 0
        FM      0x02, 0xFF
        FM      0x04, 0x21
        WAIT_MS 1
        IN8     0x388
        CHECK   al, e, 0xC0             ; the low bits tell an OPL3
        FM      0x04, 0x60
        FM      0x04, 0x80
        WAIT_MS 100
        FM      0x20, 0x01              ; the modulator is silent
        FM      0x40, 0x3F
        FM      0x60, 0xF0
        FM      0x80, 0x0F
        FM      0x23, 0x21              ; the carrier: held, full, at once
        FM      0x43, 0x00
        FM      0x63, 0xF0
        FM      0x83, 0x0F
        FM      0xC0, 0x01
        FM      0xA0, 580 & 0xFF        ; 580 * 49716 / 2^16 = 440 Hz
        FM      0xB0, 0x20 | 4 << 2 | 580 >> 8
        WAIT_MS 500
        FM      0xB0, 4 << 2 | 580 >> 8
        WAIT_MS 200
        PASS
