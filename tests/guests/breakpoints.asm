; Debug registers: execution and data breakpoints, their bits in DR6, RF, general detect, DR4 and DR5.
; Source: Intel SDM 3B, 18.2 and 18.3.

%include "report.inc"
%include "protected.inc"

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        SET_GATE 1, CODE32, debug, 0x8E00
        mov     eax, 0x12345678
        mov     dr0, eax
        mov     eax, dr0
        CHECK   eax, e, 0x12345678
        mov     eax, dr6
        CHECK   eax, e, 0xFFFF0FF0
        mov     eax, dr7
        CHECK   eax, e, 0x400
        mov     eax, dr4                ; DR6, as long as CR4.DE is clear
        CHECK   eax, e, 0xFFFF0FF0

; Execution: before the instruction, once when RF is set in the saved flags.
        mov     eax, .here
        mov     dr0, eax
        mov     eax, 0x402              ; global, execution, DR0
        mov     dr7, eax
        xor     ecx, ecx
.here:  inc     ecx
        CHECK   ecx, e, 1
        CHECK   dword [count], e, 1
        CHECK   dword [where], e, .here
        mov     eax, [status]
        and     eax, 0x600F
        CHECK   eax, e, 1
        test    dword [flags], 0x10000  ; the saved RF is clear for instruction breakpoints alone (SDM 3, 2.3)
        CHECK_FLAG z

; Data writes: behind the instruction; reads do not count.
        mov     dword [count], 0
        mov     eax, watched
        mov     dr1, eax
        mov     eax, 0x00D00408         ; DR1: writes, 4 bytes
        mov     dr7, eax
        mov     eax, [watched]
        CHECK   dword [count], e, 0
        mov     dword [watched], 5
.written:
        CHECK   dword [count], e, 1
        CHECK   dword [where], e, .written
        mov     eax, [status]
        and     eax, 0x600F
        CHECK   eax, e, 2
        mov     byte [watched + 3], 1
        CHECK   dword [count], e, 2
        mov     byte [watched + 4], 1
        CHECK   dword [count], e, 2
        mov     dword [watched - 3], 0
        CHECK   dword [count], e, 3
; Reads or writes of one byte.
        mov     dword [count], 0
        mov     eax, watched + 1
        mov     dr2, eax
        mov     eax, 0x03000420         ; DR2: reads and writes, one byte
        mov     dr7, eax
        mov     al, [watched]
        CHECK   dword [count], e, 0
        mov     al, [watched + 1]
        CHECK   dword [count], e, 1
        mov     eax, [status]
        and     eax, 0x600F
        CHECK   eax, e, 4
        xor     eax, eax
        mov     dr7, eax
        mov     al, [watched + 1]
        CHECK   dword [count], e, 1

; General detect: touching a debug register faults with BD, and GD is cleared for the handler.
        mov     dword [count], 0
        mov     eax, 0x2400
        mov     dr7, eax
.touch: mov     eax, dr0
        CHECK   dword [count], e, 1
        CHECK   dword [where], e, .touch
        mov     eax, [status]
        test    eax, 0x2000
        CHECK_FLAG nz

; With CR4.DE, DR4 and DR5 are no registers.
        mov     eax, cr4
        or      al, 8
        mov     cr4, eax
        FAULTS  6, 0, mov eax, dr4
        ; ICEBP.
        mov     dword [count], 0
        db      0xF1
        CHECK   dword [count], e, 1
        PASS

debug:  push    eax
        inc     dword [count]
        mov     eax, [esp + 4]
        mov     [where], eax
        mov     eax, [esp + 12]
        mov     [flags], eax
        mov     eax, dr6
        mov     [status], eax
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        or      dword [esp + 12], 0x10000
        pop     eax
        iret

count:  dd      0
where:  dd      0
flags:  dd      0
status: dd      0
        align   8
        dd      0
        dd      0
watched: dd     0, 0
