; Changes of page tables in long mode, with and without INVLPG: what must be seen at once and what only then; accessed
; and dirty bits; global pages; large pages split; rights of every level, NX, WP, SMEP and SMAP with their error codes;
; reserved bits. Source: Intel SDM 3A, 4.5 to 4.10.

%include "report.inc"
%include "protected.inc"
%include "long.inc"

FRAMES  equ 0x20000                     ; frame n is FRAMES + n * 4 KiB
PAGES   equ 0x1000000                   ; 16 MiB: by the table FINE
P       equ 1
W       equ 2
U       equ 4
A       equ 0x20
D       equ 0x40
G       equ 0x100
USER64  equ SPARE2 | 3

; ENTRY page, value: without INVLPG. MAP page, value: with it. EITHER way the entry is in FINE.
%macro ENTRY 2
        mov     rax, %2
        mov     [FINE + 8 * (%1)], rax
%endmacro
%macro MAP 2
        ENTRY   %1, %2
        invlpg  [PAGES + 0x1000 * (%1)]
%endmacro
; PAGE_FAULT error code, address, instruction
%macro PAGE_FAULT 3+
        FAULTS64 14, %1, %3
        mov     rax, %2
        CHECK   [fault64 + 56], e, rax
%endmacro
; CALL_FAULTS error code, address: a call that faults at its target.
%macro CALL_FAULTS 2
        mov     ebx, %2
        mov     qword [resume64], %%after
        mov     [resume_rsp], rsp
        mov     qword [fault64], -1
        call    rbx
        FAIL
%%after:
        CHECK   qword [fault64], e, 14
        CHECK   qword [fault64 + 8], e, %1
        CHECK   qword [fault64 + 16], e, rbx
        CHECK   qword [fault64 + 56], e, rbx
        mov     qword [resume64], 0
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        ENTER_LONG_MODE
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800              ; NXE
        wrmsr
        mov     edi, FINE
        mov     ecx, 512
        xor     eax, eax
        rep     stosq
        mov     ecx, 16                 ; each frame's first word is its number; then a RET
        mov     edi, FRAMES
        xor     eax, eax
.number:
        mov     [rdi], rax
        mov     byte [rdi + 0x800], 0xC3
        inc     eax
        add     edi, 0x1000
        dec     ecx
        jnz     .number
        and     byte [DIRECTORIES], ~U  ; the program itself is not the user's
        mov     qword [DIRECTORIES + 8 * 8], FINE | P | W | U
        mov     rax, cr3
        mov     cr3, rax

; Absent entries are not remembered: what becomes present needs no INVLPG. On each level.
        PAGE_FAULT 0, PAGES, mov rbx, [PAGES]
        ENTRY   0, FRAMES | P
        CHECK   dword [PAGES], e, 0
        PAGE_FAULT 0, PAGES + 0x1000, mov rbx, [PAGES + 0x1000]
        ENTRY   1, FRAMES + 0x1000 | P
        CHECK   dword [PAGES + 0x1000], e, 1
        mov     rbx, 0x8000000000       ; the second PML4 entry
        PAGE_FAULT 2, 0x8000000000, mov [rbx], rax
        mov     qword [PML4 + 8], PDPT | P | W | U
        mov     eax, [rbx + FRAMES + 0x3000]
        CHECK   eax, e, 3
        mov     qword [PML4 + 8], 0
        invlpg  [rbx + FRAMES + 0x3000]
        PAGE_FAULT 0, 0x8000000000 + FRAMES + 0x3000, mov eax, [rbx + FRAMES + 0x3000]
; More rights without INVLPG: one fault at most, and then the new entry counts.
        mov     rax, cr0
        or      eax, 0x10000            ; WP
        mov     cr0, rax
        MAP     2, FRAMES + 0x2000 | P
        PAGE_FAULT 3, PAGES + 0x2000, mov byte [PAGES + 0x2000], 2
        ENTRY   2, FRAMES + 0x2000 | P | W
        mov     byte [PAGES + 0x2000], 2
; Fewer rights, another frame: after INVLPG, after CR3.
        mov     eax, [PAGES + 0x2000]
        MAP     2, FRAMES + 0x2000 | P
        PAGE_FAULT 3, PAGES + 0x2000, mov byte [PAGES + 0x2000], 9
        MAP     2, FRAMES + 0x3000 | P | W
        CHECK   dword [PAGES + 0x2000], e, 3
        ENTRY   2, FRAMES + 0x4000 | P | W
        mov     rax, cr3
        mov     cr3, rax
        CHECK   dword [PAGES + 0x2000], e, 4
        MAP     2, 0
        PAGE_FAULT 0, PAGES + 0x2000, mov eax, [PAGES + 0x2000]
        ; INVLPG of another address leaves no doubt about this one; of a byte inside the page it counts.
        ENTRY   2, FRAMES + 0x5000 | P
        CHECK   dword [PAGES + 0x2000], e, 5
        ENTRY   2, FRAMES + 0x6000 | P
        invlpg  [PAGES + 0x2FFF]
        CHECK   dword [PAGES + 0x2000], e, 6
        ; The middle of the tables: an entry of a directory, changed and changed back.
        mov     qword [DIRECTORIES + 8 * 8], 0
        invlpg  [PAGES]
        PAGE_FAULT 0, PAGES, mov eax, [PAGES]
        mov     qword [DIRECTORIES + 8 * 8], FINE | P | W | U
        CHECK   dword [PAGES + 0x1000], e, 1

; Global pages: INVLPG and a change of CR4.PGE take them away.
        mov     rax, cr4
        or      eax, 0x80
        mov     cr4, rax
        MAP     3, FRAMES + 0x3000 | P | G
        CHECK   dword [PAGES + 0x3000], e, 3
        MAP     3, FRAMES + 0x4000 | P | G
        CHECK   dword [PAGES + 0x3000], e, 4
        ENTRY   3, FRAMES + 0x5000 | P | G
        mov     rax, cr4
        xor     eax, 0x80
        mov     cr4, rax
        CHECK   dword [PAGES + 0x3000], e, 5
        ENTRY   3, FRAMES + 0x6000 | P | G
        mov     rax, cr4
        xor     eax, 0x80
        mov     cr4, rax
        CHECK   dword [PAGES + 0x3000], e, 6
        ; Not global beside it: CR3 is enough.
        ENTRY   4, FRAMES + 0x4000 | P
        CHECK   dword [PAGES + 0x4000], e, 4
        ENTRY   4, FRAMES + 0x5000 | P
        mov     rax, cr3
        mov     cr3, rax
        CHECK   dword [PAGES + 0x4000], e, 5

; Accessed and dirty: by reads, writes, fetches, the stack; again after INVLPG; not dirty by reading; on every level.
        MAP     5, FRAMES + 0x5000 | P | W
        and     byte [PML4], ~A
        and     byte [PDPT], ~A
        and     byte [DIRECTORIES + 8 * 8], ~A
        mov     rax, cr3
        mov     cr3, rax
        mov     eax, [PAGES + 0x5000]
        CHECK   word [FINE + 8 * 5], e, (FRAMES + 0x5000 | P | W | A) & 0xFFFF
        test    byte [PML4], A
        CHECK_FLAG nz
        test    byte [PDPT], A
        CHECK_FLAG nz
        test    byte [DIRECTORIES + 8 * 8], A
        CHECK_FLAG nz
        test    byte [DIRECTORIES + 8 * 8], D   ; ignored there, and never set
        CHECK_FLAG z
        or      byte [PAGES + 0x5000], 0
        CHECK   byte [FINE + 8 * 5], e, P | W | A | D
        MAP     5, FRAMES + 0x5000 | P | W
        mov     eax, 77                 ; a compare-exchange that fails writes all the same
        lock cmpxchg [PAGES + 0x5000], ebx
        CHECK   byte [FINE + 8 * 5], e, P | W | A | D
        MAP     5, FRAMES + 0x5000 | P | W
        mov     ebx, PAGES + 0x5800
        call    rbx
        CHECK   byte [FINE + 8 * 5], e, P | W | A
        mov     rbp, rsp
        mov     esp, PAGES + 0x5100
        push    rax
        mov     rsp, rbp
        CHECK   byte [FINE + 8 * 5], e, P | W | A | D
        ; A fault sets neither.
        MAP     5, FRAMES + 0x5000 | P
        PAGE_FAULT 3, PAGES + 0x5000, mov byte [PAGES + 0x5000], 1
        test    byte [FINE + 8 * 5], D
        CHECK_FLAG z
        ; Both pages of an access across.
        MAP     5, FRAMES + 0x5000 | P | W
        MAP     6, FRAMES + 0x6000 | P
        mov     qword [PAGES + 0x5FF8], 0
        PAGE_FAULT 3, PAGES + 0x6000, mov qword [PAGES + 0x5FFC], -1
        cmp     qword [PAGES + 0x5FF8], 0
        je      .whole
        END     252                     ; what runs this writes one page before it looks at the other
.whole:
        MAP     6, FRAMES + 0x6000 | P | W
        mov     rax, [PAGES + 0x5FFC]
        mov     [PAGES + 0x5FFC], rax
        CHECK   byte [FINE + 8 * 5], e, P | W | A | D
        CHECK   byte [FINE + 8 * 6], e, P | W | A | D

; A large page of 2 MiB is split while parts of it are known; and made whole again.
        mov     qword [DIRECTORIES + 8 * 9], 0x83       ; 18 MiB: the first 2 MiB
        mov     ebx, 0x1200000
        CHECK   dword [rbx + FRAMES + 0x1000], e, 1
        CHECK   dword [rbx + FRAMES + 0x2000], e, 2
        mov     edi, FINE + 0x1000
        mov     eax, FRAMES + P | W
        mov     ecx, 512                        ; all of its pages are frame 0 now
.split: mov     [rdi], rax
        add     edi, 8
        dec     ecx
        jnz     .split
        mov     qword [DIRECTORIES + 8 * 9], FINE + 0x1000 | P | W
        invlpg  [rbx + FRAMES + 0x1000]
        invlpg  [rbx + FRAMES + 0x2000]
        CHECK   dword [rbx + FRAMES + 0x1000], e, 0
        CHECK   dword [rbx + FRAMES + 0x2000], e, 0
        mov     qword [DIRECTORIES + 8 * 9], 0x83
        invlpg  [rbx + FRAMES + 0x1000]
        invlpg  [rbx + FRAMES + 0x2000]
        CHECK   dword [rbx + FRAMES + 0x1000], e, 1
        CHECK   dword [rbx + FRAMES + 0x2000], e, 2
        ; One INVLPG takes all of a large page that is still one.
        mov     qword [DIRECTORIES + 8 * 9], 0x200083   ; the second 2 MiB: empty
        invlpg  [rbx]
        CHECK   dword [rbx + FRAMES + 0x1000], e, 0
        CHECK   dword [rbx + FRAMES + 0x2000], e, 0
        mov     qword [DIRECTORIES + 8 * 9], 0x83 | 0x2000      ; bit 13 is reserved
        invlpg  [rbx]
        PAGE_FAULT 9, 0x1200000, mov eax, [rbx]
        PAGE_FAULT 11, 0x1200000, mov [rbx], eax
        mov     qword [DIRECTORIES + 8 * 9], 0

; Rights are those of all levels together.
        MAP     7, FRAMES + 0x7000 | P | W | U
        and     byte [DIRECTORIES + 8 * 8], ~W
        mov     rax, cr3
        mov     cr3, rax
        PAGE_FAULT 3, PAGES + 0x7000, mov byte [PAGES + 0x7000], 7
        or      byte [DIRECTORIES + 8 * 8], W
        mov     rax, cr3
        mov     cr3, rax
        mov     byte [PAGES + 0x7000], 7
        mov     rax, cr0
        and     eax, ~0x10000           ; without WP ring 0 writes anywhere
        mov     cr0, rax
        MAP     7, FRAMES + 0x7000 | P | U
        mov     byte [PAGES + 0x7000], 7
        CHECK   byte [FINE + 8 * 7], e, P | U | A | D
        mov     rax, cr0
        or      eax, 0x10000
        mov     cr0, rax
        PAGE_FAULT 3, PAGES + 0x7000, mov byte [PAGES + 0x7000], 7
; NX, in the last entry and above it; a reserved bit without EFER.NXE.
        MAP     7, FRAMES + 0x7000 | P | W
        mov     ebx, PAGES + 0x7800
        call    rbx
        MAP     7, 1 << 63 | FRAMES + 0x7000 | P | W
        CHECK   dword [PAGES + 0x7000], e, 7
        CALL_FAULTS 0x11, PAGES + 0x7800
        MAP     7, FRAMES + 0x7000 | P | W
        mov     ebx, PAGES + 0x7800
        call    rbx
        bts     qword [DIRECTORIES + 8 * 8], 63
        mov     rax, cr3
        mov     cr3, rax
        CALL_FAULTS 0x11, PAGES + 0x7800
        btr     qword [DIRECTORIES + 8 * 8], 63
        MAP     7, 0
        CALL_FAULTS 0x10, PAGES + 0x7800
        MAP     7, 1 << 63 | FRAMES + 0x7000 | P | W
        mov     ecx, 0xC0000080
        rdmsr
        and     eax, ~0x800
        wrmsr
        mov     rax, cr3
        mov     cr3, rax
        PAGE_FAULT 9, PAGES + 0x7000, mov eax, [PAGES + 0x7000]
        CALL_FAULTS 9, PAGES + 0x7800   ; no NX, no SMEP: the fetch is not told
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800
        wrmsr
        MAP     7, 1 << 51 | FRAMES + 0x7000 | P ; beyond the physical address
        PAGE_FAULT 9, PAGES + 0x7000, mov eax, [PAGES + 0x7000]

; SMEP and SMAP, where there are.
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        mov     [features], ebx
        test    dword [features], 1 << 7
        jz      near no_smep
        MAP     7, FRAMES + 0x7000 | P | W | U
        mov     ebx, PAGES + 0x7800
        call    rbx
        mov     rax, cr4
        or      eax, 1 << 20
        mov     cr4, rax
        CALL_FAULTS 0x11, PAGES + 0x7800
        CHECK   dword [PAGES + 0x7000], e, 7    ; reads are not its business
        MAP     7, FRAMES + 0x7000 | P | W
        mov     ebx, PAGES + 0x7800
        call    rbx
no_smep:
        test    dword [features], 1 << 20
        jz      near no_smap
        MAP     7, FRAMES + 0x7000 | P | W | U
        mov     rax, cr4
        or      eax, 1 << 21
        mov     cr4, rax
        PAGE_FAULT 1, PAGES + 0x7000, mov eax, [PAGES + 0x7000]
        PAGE_FAULT 3, PAGES + 0x7000, mov [PAGES + 0x7000], eax
        PAGE_FAULT 3, PAGES + 0x7000, inc dword [PAGES + 0x7000]
        PAGE_FAULT 1, PAGES + 0x7FFE, mov eax, [PAGES + 0x7FFE]
        stac
        CHECK   dword [PAGES + 0x7000], e, 7
        mov     dword [PAGES + 0x7000], 7
        clac
        PAGE_FAULT 1, PAGES + 0x7000, mov eax, [PAGES + 0x7000]
        push    qword 0x40002                   ; AC by POPFQ as well
        popfq
        CHECK   dword [PAGES + 0x7000], e, 7
        ; An interrupt keeps AC: the handler may.
        SET_GATE64 0x30, keeps_ac, 0x8E, 0
        int     0x30
        clac
        push    qword 2
        popfq
        mov     rax, cr4
        and     eax, ~(1 << 21)
        mov     cr4, rax
no_smap:

; Ring 3: error codes with the user bit, and a page that becomes the user's without INVLPG after a fault.
        mov     rax, 0x00AFFB000000FFFF
        mov     [spare2_descriptor], rax
%macro IN_USER 3                        ; error code, address, routine
        mov     qword [resume64], %%after
        mov     [resume_rsp], rsp
        mov     qword [fault64], -1
        push    qword USER_DATA
        push    qword PAGES + 0x8F00
        push    qword 2
        push    qword USER64
        push    qword PAGES + 0x8000 + (%3) - user_code
        iretq
%%after:
        CHECK   qword [fault64], e, 14
        CHECK   qword [fault64 + 8], e, %1
        mov     eax, %2
        CHECK   qword [fault64 + 56], e, rax
        CHECK   word [fault64 + 24], e, USER64
%endmacro
        MAP     8, FRAMES + 0x8000 | P | W | U
        mov     esi, user_code
        mov     edi, FRAMES + 0x8000
        mov     ecx, user_end - user_code
        rep     movsb
        or      byte [PML4], U
        or      byte [PDPT], U
        MAP     9, FRAMES + 0x9000 | P | W
        MAP     10, FRAMES + 0xA000 | P | U
        MAP     11, 0
        IN_USER 5, PAGES + 0x9000, user_read
        IN_USER 7, PAGES + 0x9000, user_write
        IN_USER 0x15, PAGES + 0x9000, user_fetch
        ENTRY   9, FRAMES + 0x9000 | P | W | U
        IN_USER 7, PAGES + 0xA000, user_write   ; it wrote page 9 before
        CHECK   byte [FINE + 8 * 9], e, P | W | U | A | D
        ENTRY   10, FRAMES + 0xA000 | P | U | W
        IN_USER 6, PAGES + 0xB000, user_write
        IN_USER 4, PAGES + 0xB000, user_read
        PASS

keeps_ac:
        CHECK   dword [PAGES + 0x7000], e, 7
        iretq
user_code:
user_read:
        mov     eax, [PAGES + 0x9000]
        mov     eax, [PAGES + 0xA000]
        mov     eax, [PAGES + 0xB000]
        jmp     $
user_write:
        mov     [PAGES + 0x9000], eax
        mov     [PAGES + 0xA000], eax
        mov     [PAGES + 0xB000], eax
        jmp     $
user_fetch:
        mov     eax, PAGES + 0x9000
        jmp     rax
user_end:
features: dd    0
