; Translations of 64-bit systems: pages of 1 GiB (contents, accessed and dirty flags, reserved bits, split into smaller
; ones), and process-context identifiers: what CR3 keeps and drops, and the four kinds of INVPCID. Every stale
; translation that is looked at is one that must be gone; those that may stay are not looked at. Sources: Intel SDM 3A,
; 5.5.4, 5.10.1, 5.10.4; SDM 2A, INVPCID.

%include "report.inc"
%include "protected.inc"
%include "long.inc"

PCIDE   equ 1 << 17
PGE     equ 1 << 7
KEEP    equ 1 << 63
PAGE_A  equ 0x30000                     ; two pages with different contents
PAGE_B  equ 0x31000
SEEN    equ 0x1000000                   ; where one of them is seen, by FINE
CONTEXT equ 0x2F000                   ; of INVPCID

; LOAD_CR3 value. Destroys RAX.
%macro LOAD_CR3 1
        mov     rax, %1
        mov     cr3, rax
%endmacro

; INVALIDATE type, PCID, address. Destroys RAX.
%macro INVALIDATE 3
        mov     qword [CONTEXT], %2
        mov     rax, %3
        mov     [CONTEXT + 8], rax
        mov     eax, %1
        invpcid rax, [CONTEXT]
%endmacro

; SHOW entry bits: what FINE's first page is from now on, in memory alone.
%macro SHOW 1
        mov     qword [FINE], %1
%endmacro

; SEES value: what SEEN reads.
%macro SEES 1
        CHECK   dword [SEEN], e, %1
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        ENTER_LONG_MODE

        mov     dword [PAGE_A], 0xAAAA
        mov     dword [PAGE_B], 0xBBBB

; 1 GiB pages, if there are any.
        mov     eax, 0x80000001
        cpuid
        test    edx, 1 << 26
        jz      no_giant_pages
        mov     qword [PDPT + 8 * 8], 0x83              ; 8 GiB is 0, for supervisors
        mov     rbx, 0x200000000
        CHECK   dword [rbx + PAGE_A], e, 0xAAAA
        CHECK   qword [PDPT + 8 * 8], e, 0xA3           ; accessed
        mov     dword [rbx + PAGE_B], 0xB0B0
        CHECK   dword [PAGE_B], e, 0xB0B0
        CHECK   qword [PDPT + 8 * 8], e, 0xE3           ; dirty
        mov     dword [PAGE_B], 0xBBBB
        CHECK   dword [rbx + PAGE_B], e, 0xBBBB
        mov     qword [PDPT + 9 * 8], 0x40000083        ; 9 GiB is 1 GiB
        mov     rcx, 0x240000000
        mov     eax, [0x40000000]
        CHECK   dword [rcx], e, eax
        ; Read-only once it has been flushed.
        mov     rax, cr0
        or      eax, 1 << 16
        mov     cr0, rax
        mov     qword [PDPT + 8 * 8], 0x81
        invlpg  [rbx + 0x12345678]                      ; any address in it
        FAULTS64 14, 3, mov dword [rbx + PAGE_B], 1
        lea     rcx, [rbx + PAGE_B]
        CHECK   qword [fault64 + 56], e, rcx
        CHECK   qword [PDPT + 8 * 8], e, 0x81           ; a write that faults sets nothing
        mov     rax, cr0
        btr     eax, 16
        mov     cr0, rax
        ; Bits 13 to 29 are reserved.
        mov     qword [PDPT + 8 * 8], 0x2083
        invlpg  [rbx]
        FAULTS64 14, 9, mov eax, [rbx + PAGE_A]
        ; Split: the same address by a directory and a page table.
        mov     qword [PDPT + 8 * 8], SPLIT | 7
        mov     qword [SPLIT], FINE | 7
        mov     qword [FINE + 8 * (PAGE_A >> 12)], PAGE_B | 7
        invlpg  [rbx]
        CHECK   dword [rbx + PAGE_A], e, 0xBBBB
        mov     qword [PDPT + 8 * 8], 0
        invlpg  [rbx + PAGE_A]          ; 4 KiB only
        FAULTS64 14, 0, mov eax, [rbx + PAGE_A]
        SAY     '1 GiB pages, '
no_giant_pages:

; PCIDs, if there are any.
        mov     eax, 1
        cpuid
        test    ecx, 1 << 17
        jz      no_contexts
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        test    ebx, 1 << 10            ; INVPCID
        jz      no_contexts
        mov     qword [DIRECTORIES + 8 * 8], FINE | 7   ; 16 MiB, by 4 KiB pages
        SHOW    PAGE_A | 7
        LOAD_CR3 PML4 | 5
        mov     rbx, cr4
        or      rbx, PCIDE
        FAULTS64 13, 0, mov cr4, rbx    ; CR3 names a context that is not 0
        LOAD_CR3 PML4
        mov     cr4, rbx
        mov     rax, cr0
        btr     rax, 31
        FAULTS64 13, 0, mov cr0, rax    ; paging stays on
        mov     rbx, PML4 | 1
        mov     cr3, rbx
        CHECK   rbx, e, PML4 | 1
        mov     rax, cr3
        CHECK   rax, e, PML4 | 1
        SEES    0xAAAA
; A load of CR3 without bit 63 drops what its own context had.
        SHOW    PAGE_B | 7
        LOAD_CR3 PML4 | 1
        SEES    0xBBBB
; Another context sees memory as it is, and so does the first one, told to forget.
        SHOW    PAGE_A | 7
        LOAD_CR3 PML4 | 2
        SEES    0xAAAA
        LOAD_CR3 PML4 | 1
        SEES    0xAAAA
; Kept: bit 63 is not kept itself. Single addresses, of another context and of this one.
        SHOW    PAGE_B | 7
        LOAD_CR3 KEEP | PML4 | 2
        mov     rax, cr3
        CHECK   rax, e, PML4 | 2
        mov     eax, [SEEN]             ; old or new
        INVALIDATE 0, 2, SEEN
        SEES    0xBBBB
        SHOW    PAGE_A | 7
        INVALIDATE 0, 1, SEEN + 8
        LOAD_CR3 KEEP | PML4 | 1
        SEES    0xAAAA
; INVLPG is of the present context.
        SHOW    PAGE_B | 7
        invlpg  [SEEN]
        SEES    0xBBBB
; A whole context that is not the present one.
        SHOW    PAGE_A | 7
        LOAD_CR3 KEEP | PML4 | 2
        INVALIDATE 1, 1, 0
        LOAD_CR3 KEEP | PML4 | 1
        SEES    0xAAAA
; Everything but what is global, everything.
        SHOW    PAGE_B | 7
        INVALIDATE 3, 0, 0
        SEES    0xBBBB
        LOAD_CR3 KEEP | PML4 | 2
        SEES    0xBBBB
        mov     rbx, cr4
        or      rbx, PGE
        mov     cr4, rbx
        SHOW    PAGE_A | 0x107          ; global
        INVALIDATE 2, 0, 0
        SEES    0xAAAA
        LOAD_CR3 PML4 | 3
        SEES    0xAAAA
        SHOW    PAGE_B | 0x107
        INVALIDATE 2, 0, 0
        SEES    0xBBBB
        LOAD_CR3 KEEP | PML4 | 1
        SEES    0xBBBB
; CR4.PGE and CR4.PCIDE, changed, drop all of all.
        SHOW    PAGE_A | 7
        mov     rbx, cr4
        btr     rbx, 7
        mov     cr4, rbx
        SEES    0xAAAA
        LOAD_CR3 KEEP | PML4 | 2
        SEES    0xAAAA
        LOAD_CR3 KEEP | PML4
        SHOW    PAGE_B | 7
        mov     rbx, cr4
        btr     rbx, 17
        mov     cr4, rbx
        SEES    0xBBBB
; What INVPCID refuses: types above 3, reserved bits, contexts without CR4.PCIDE, addresses that are not canonical.
        mov     qword [CONTEXT], 0
        mov     qword [CONTEXT + 8], 0
        mov     eax, 4
        FAULTS64 13, 0, invpcid rax, [CONTEXT]
        mov     eax, 0
        mov     dword [CONTEXT], 1
        FAULTS64 13, 0, invpcid rax, [CONTEXT]
        mov     dword [CONTEXT], 0x1000
        mov     eax, 2
        FAULTS64 13, 0, invpcid rax, [CONTEXT]
        mov     dword [CONTEXT], 0
        mov     rcx, 1 << 47
        mov     [CONTEXT + 8], rcx
        mov     eax, 0
        FAULTS64 13, 0, invpcid rax, [CONTEXT]
        SAY     'contexts'
no_contexts:
        PASS

SPLIT   equ 0x17000                     ; a directory
