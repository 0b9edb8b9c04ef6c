; The port of calls, 0x5658: an IN of 32 bits there sees EAX, EBX, ECX and EDX and changes them, and no other IN
; does. VMware's pointer behind it: enabled, asked, disabled. Sources: src/input/vmware.rs of the hardware.

%include "report.inc"

MAGIC   equ 0x564D5868
PORT    equ 0x5658

; CALL command, EBX
%macro CALL_PORT 2
        mov     eax, MAGIC
        mov     ebx, %2
        mov     ecx, 0x12340000 | %1    ; commands are in CX alone
        mov     edx, 0x9ABC0000 | PORT
        mov     esi, 0x11111111
        mov     edi, 0x22222222
        in      eax, dx
        CHECK   esi, e, 0x11111111
        CHECK   edi, e, 0x22222222
%endmacro

        REAL_MODE_START
        CALL_PORT 10, 0                 ; version
        CHECK   eax, e, 6
        CHECK   ebx, e, MAGIC
        CHECK   ecx, e, 4
        CHECK   edx, e, 0x9ABC5658

        CALL_PORT 1, 0x33333333         ; a call that is not there
        CHECK   eax, e, -1
        CHECK   ebx, e, 0x33333333
        CHECK   ecx, e, 0x12340001

        mov     eax, 0x12345678         ; without the word
        mov     ebx, 7
        mov     ecx, 10
        mov     edx, PORT
        in      eax, dx
        CHECK   eax, e, -1
        CHECK   ebx, e, 7

        mov     eax, MAGIC              ; narrower reads see nothing
        mov     ebx, 7
        mov     ecx, 10
        mov     edx, PORT
        in      ax, dx
        CHECK   eax, e, 0x564DFFFF
        CHECK   ebx, e, 7
        mov     eax, MAGIC
        in      al, dx
        CHECK   eax, e, 0x564D58FF

        CALL_PORT 40, 0                 ; the pointer is off
        CHECK   eax, e, 0xFFFF0000
        CALL_PORT 41, 0x45414552        ; enable
        CALL_PORT 40, 0
        CHECK   eax, e, 1
        CALL_PORT 39, 1                 ; its version waits
        CHECK   eax, e, 0x3442554A
        CHECK   ebx, e, 1
        CALL_PORT 40, 0
        CHECK   eax, e, 0
        CALL_PORT 41, 0x53424152        ; absolute
        CALL_PORT 39, 4                 ; nothing is there
        CHECK   eax, e, -1
        CALL_PORT 40, 0
        CHECK   eax, e, 0xFFFF0000
        PASS
