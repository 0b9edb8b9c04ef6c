; Real mode with an interrupt table that has room for nothing, and a division by zero.
%include "broken.inc"
        lidt    [none]
        xor     bx, bx
        div     bx
        TABLES
        SECTOR
