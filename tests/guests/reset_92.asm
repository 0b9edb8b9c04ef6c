; Reset by port 0x92: the processor starts anew, memory stays.
%include "report.inc"
%include "reset.inc"
        in      al, 0x92
        and     al, 0xFE
        out     0x92, al
        or      al, 1
        out     0x92, al
        RESET_IS_DUE
