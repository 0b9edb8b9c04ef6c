; A triple fault, made as systems of old reset themselves: UD2 with an interrupt table that has room for nothing.
; The test looks at the chain of faults and at the registers.
%include "report.inc"
%include "protected.inc"
        REAL_MODE_START
        ENTER_PROTECTED_MODE
        lidt    [empty]
        mov     eax, 0x12345678
        mov     ebx, fatal
        jmp     fatal
        align   16
fatal:  ud2
        FAIL
empty:  dw      0
        dd      0
