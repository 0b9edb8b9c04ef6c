; Reset by port 0xCF9: the whole board starts anew.
%include "report.inc"
%include "reset.inc"
        OUT8    0xCF9, 0x02
        OUT8    0xCF9, 0x06
        RESET_IS_DUE
