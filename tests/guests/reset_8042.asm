; Reset by the keyboard controller's output port: the processor starts anew, memory stays.
%include "report.inc"
%include "reset.inc"
        AWAIT   0x64, 2, 0
        OUT8    0x64, 0xFE
        RESET_IS_DUE
