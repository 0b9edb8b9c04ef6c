; The PC's loudspeaker: 8254 counter 2 gated by port 0x61, 440 Hz for half a second.
; Source: Intel 8254 datasheet (231164), mode 3.

%include "report.inc"

        REAL_MODE_START
%include "sound/sound.inc"
        CLOCK_START
        WAIT_MS 100
        OUT8    0x43, 0xB6
        OUT8    0x42, 2712 & 0xFF       ; 1193182 / 440
        OUT8    0x42, 2712 >> 8
        in      al, 0x61
        or      al, 3
        out     0x61, al
        WAIT_MS 500
        in      al, 0x61
        and     al, 0xFC
        out     0x61, al
        WAIT_MS 200
        PASS
