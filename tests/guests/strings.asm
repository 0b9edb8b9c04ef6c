; String instructions: directions, counts, prefixes, segments, overlaps; and over page faults, where registers must be
; exact so that the instruction restarts where it stopped. Source: Intel SDM 2, REP; 3A, 6.5.

%include "report.inc"
%include "protected.inc"

DIRECTORY equ 0x10000
TABLE0  equ 0x11000
TABLE1  equ 0x12000
PAGES   equ 0x400000                    ; 16 pages on frames from 0x20000

        REAL_MODE_START
; Real mode: SI and DI wrap at 64 KiB.
        mov     ax, 0x2000
        mov     es, ax
        mov     ds, ax
        mov     byte [0xFFFF], 0x11
        mov     byte [0], 0x22
        mov     si, 0xFFFF
        mov     di, 0x100
        mov     cx, 2
        rep     movsb
        CHECK   word [es:0x100], e, 0x2211
        CHECK   si, e, 1
        CHECK   cx, e, 0
        mov     di, 0xFFFE
        mov     ax, 0x4433
        mov     cx, 2
        rep     stosw
        CHECK   word [es:0xFFFE], e, 0x4433
        CHECK   word [es:0], e, 0x4433
        CHECK   di, e, 2
        xor     ax, ax
        mov     ds, ax
        mov     es, ax

        ENTER_PROTECTED_MODE
        mov     edi, DIRECTORY
        mov     ecx, 3 * 1024
        xor     eax, eax
        rep     stosd
        CHECK   edi, e, DIRECTORY + 0x3000
        CHECK   ecx, e, 0
        mov     edi, TABLE0
        mov     ecx, 1024
        mov     eax, 3
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [DIRECTORY], TABLE0 | 3
        mov     dword [DIRECTORY + 4], TABLE1 | 3
        mov     edi, TABLE1
        mov     ecx, 16
        mov     eax, 0x20003
.fill1: stosd
        add     eax, 0x1000
        loop    .fill1
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80010000         ; with WP
        mov     cr0, eax

; A pattern over four pages, moved up and down.
        mov     edi, PAGES
        mov     ecx, 0x1000
        xor     eax, eax
.pattern:
        stosd
        add     eax, 0x01010101
        loop    .pattern
        mov     esi, PAGES
        mov     edi, PAGES + 0x8003
        mov     ecx, 0x4000
        rep     movsb
        mov     eax, [PAGES + 0x1234]
        CHECK   dword [PAGES + 0x8003 + 0x1234], e, eax
        mov     eax, [PAGES + 0x3FFC]
        CHECK   dword [PAGES + 0x8003 + 0x3FFC], e, eax
        mov     esi, PAGES
        mov     edi, PAGES + 0x8003
        mov     ecx, 0x4000
        repe    cmpsb
        CHECK_FLAG e
        CHECK   ecx, e, 0
        inc     byte [PAGES + 0x8003 + 0x2FFF]
        mov     esi, PAGES
        mov     edi, PAGES + 0x8003
        mov     ecx, 0x4000
        repe    cmpsb
        CHECK_FLAG ne
        CHECK   ecx, e, 0x1000
        CHECK   esi, e, PAGES + 0x3000
; Overlap of one byte copies the byte on; backwards it moves.
        mov     byte [PAGES], 0x5A
        mov     esi, PAGES
        mov     edi, PAGES + 1
        mov     ecx, 0x1800
        rep     movsb
        CHECK   dword [PAGES + 0x17FD], e, 0x5A5A5A5A
        mov     dword [PAGES + 0x100], 0x04030201
        std
        mov     esi, PAGES + 0x103
        mov     edi, PAGES + 0x104
        mov     ecx, 4
        rep     movsb
        cld
        CHECK   dword [PAGES + 0x101], e, 0x04030201
        CHECK   esi, e, PAGES + 0xFF
        CHECK   edi, e, PAGES + 0x100
        std
        mov     esi, PAGES + 0x2FFC
        mov     edi, PAGES + 0x4FFC
        mov     ecx, 0x600
        rep     movsd
        cld
        CHECK   edi, e, PAGES + 0x4FFC - 0x1800
        mov     eax, [PAGES + 0x1800]
        CHECK   dword [PAGES + 0x3800], e, eax
; SCAS and LODS.
        mov     edi, PAGES + 0x6000
        mov     ecx, 0x1000
        xor     eax, eax
        rep     stosb
        mov     byte [PAGES + 0x6ABC], 7
        mov     edi, PAGES + 0x6000
        mov     ecx, 0x1000
        repe    scasb
        CHECK   edi, e, PAGES + 0x6ABD
        mov     edi, PAGES + 0x6000
        mov     ecx, 0x1000
        mov     al, 7
        repne   scasb
        CHECK_FLAG e
        CHECK   edi, e, PAGES + 0x6ABD
        CHECK   ecx, e, 0x1000 - 0xABD
        mov     esi, PAGES + 0x6ABA
        mov     ecx, 3
        rep     lodsb
        CHECK   al, e, 7
        xor     ecx, ecx
        mov     edi, 0xFFFFFF00         ; nothing is touched, flags stay
        cmp     eax, eax
        repne   scasb
        CHECK_FLAG e
        rep     stosd
        CHECK   edi, e, 0xFFFFFF00
        ; 16-bit addresses use CX, SI and DI alone.
        mov     esi, 0x12340000 + 0x900
        mov     edi, 0x12340000 + 0x910
        mov     ecx, 0x12340002
        a16 rep movsd
        CHECK   ecx, e, 0x12340000
        CHECK   esi, e, 0x12340908
        CHECK   edi, e, 0x12340918

; Faults: STOS into a page that is not there. The registers say how far it came; it restarts.
; FAULT_AT page, CR2, error code, instruction
%macro FAULT_AT 4+
        mov     dword [TABLE1 + 4 * (%1)], 0
        invlpg  [PAGES + 0x1000 * (%1)]
        FAULTS  14, %3, %4
        CHECK   dword [fault_cr2], e, %2
        mov     dword [TABLE1 + 4 * (%1)], 0x20003 + 0x1000 * (%1)
%endmacro
        mov     edi, PAGES + 0x2F00
        mov     ecx, 0x200
        mov     al, 0xAB
        FAULT_AT 3, PAGES + 0x3000, 2, rep stosb
        CHECK   edi, e, PAGES + 0x3000
        CHECK   ecx, e, 0x100
        rep     stosb
        CHECK   edi, e, PAGES + 0x3100
        CHECK   ecx, e, 0
        CHECK   byte [PAGES + 0x2FFF], e, 0xAB
        CHECK   byte [PAGES + 0x30FF], e, 0xAB
        ; Elements across the boundary are not begun.
        mov     edi, PAGES + 0x2FFA
        mov     ecx, 4
        mov     eax, 0x01020304
        FAULT_AT 3, PAGES + 0x3000, 2, rep stosd
        CHECK   edi, e, PAGES + 0x2FFE
        CHECK   ecx, e, 3
        CHECK   word [PAGES + 0x2FFE], e, 0xABAB
        ; MOVS: the source, then the destination.
        mov     esi, PAGES + 0x1FFC
        mov     edi, PAGES + 0x5000
        mov     ecx, 8
        FAULT_AT 2, PAGES + 0x2000, 0, rep movsb
        CHECK   esi, e, PAGES + 0x2000
        CHECK   edi, e, PAGES + 0x5004
        CHECK   ecx, e, 4
        mov     esi, PAGES + 0x5000
        mov     edi, PAGES + 0x6FF8
        mov     ecx, 4
        FAULT_AT 7, PAGES + 0x7000, 2, rep movsd
        CHECK   esi, e, PAGES + 0x5008
        CHECK   edi, e, PAGES + 0x7000
        CHECK   ecx, e, 2
        ; Backwards.
        std
        mov     edi, PAGES + 0x4007
        mov     ecx, 0x10
        FAULT_AT 3, PAGES + 0x3FFF, 2, rep stosb
        cld
        CHECK   edi, e, PAGES + 0x3FFF
        CHECK   ecx, e, 8
        ; CMPS and SCAS keep the flags of the last comparison made.
        mov     edi, PAGES + 0x6000
        mov     ecx, 0x1000
        xor     eax, eax
        rep     stosb
        mov     edi, PAGES + 0x6FF0
        mov     ecx, 0x20
        FAULT_AT 7, PAGES + 0x7000, 0, repe scasb
        CHECK   edi, e, PAGES + 0x7000
        CHECK   ecx, e, 0x10
        test    dword [fault_flags], 0x40
        CHECK_FLAG nz
        ; Read only under WP.
        mov     dword [TABLE1 + 4 * 3], 0x23001
        invlpg  [PAGES + 0x3000]
        mov     edi, PAGES + 0x2FF0
        mov     ecx, 0x20
        FAULTS  14, 3, rep stosb
        CHECK   ecx, e, 0x10
        mov     dword [TABLE1 + 4 * 3], 0x23003
        invlpg  [PAGES + 0x3000]

; Port strings: to the debug console, and the fault comes before the port is read.
        mov     esi, text
        mov     ecx, 4
        mov     edx, 0xE9
        rep     outsb
        CHECK   esi, e, text + 4
        mov     edi, PAGES + 0x2FFE
        mov     ecx, 4
        FAULT_AT 3, PAGES + 0x3000, 2, rep insb
        CHECK   edi, e, PAGES + 0x3000
        CHECK   ecx, e, 2
        CHECK   word [PAGES + 0x2FFE], e, 0xE9E9
        PASS

text:   db      'text'
