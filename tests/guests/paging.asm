; 32-bit paging: error codes and CR2, write protection, user pages, 4 MiB pages, accessed and dirty bits, INVLPG,
; accesses across pages. Source: Intel SDM 3A, chapter 5.
;
; The first 4 MiB are identity mapped; pages of the second 4 MiB are what is tried.

%include "report.inc"
%include "protected.inc"

DIRECTORY equ 0x10000
TABLE0  equ 0x11000
TABLE1  equ 0x12000
FRAME   equ 0x20000                     ; the frame behind PAGE
PAGE    equ 0x400000
NEXT    equ 0x401000
P       equ 1
W       equ 2
U       equ 4
A       equ 0x20
D       equ 0x40

; MAP number of the page in TABLE1, entry
%macro MAP 2
        mov     dword [TABLE1 + 4 * (%1)], %2
        invlpg  [PAGE + 0x1000 * (%1)]
%endmacro
; PAGE_FAULT error code, address, instruction
%macro PAGE_FAULT 3+
        FAULTS  14, %1, %3
        CHECK   dword [fault_cr2], e, %2
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     edi, DIRECTORY
        mov     ecx, 3 * 1024
        xor     eax, eax
        rep     stosd
        mov     edi, TABLE0
        mov     ecx, 1024
        mov     eax, P | W
.fill:  stosd
        add     eax, 0x1000
        dec     ecx
        jnz     .fill
        mov     dword [DIRECTORY], TABLE0 | P | W | U
        mov     dword [DIRECTORY + 4], TABLE1 | P | W | U
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

; Not present: read, write, fetch.
        PAGE_FAULT 0, PAGE + 0x123, mov eax, [PAGE + 0x123]
        PAGE_FAULT 2, PAGE + 0x123, mov [PAGE + 0x123], eax
        PAGE_FAULT 2, PAGE + 0x123, inc dword [PAGE + 0x123]
        mov     dword [resume], .fetched
        mov     [resume_esp], esp
        mov     eax, PAGE + 0x10
        jmp     eax
.fetched:
        CHECK   dword [fault_vector], e, 14
        CHECK   dword [fault_error], e, 0
        CHECK   dword [fault_eip], e, PAGE + 0x10
        CHECK   dword [fault_cr2], e, PAGE + 0x10
; No table at all.
        PAGE_FAULT 0, 0x12345678, mov al, [0x12345678]

; Accessed on reading, dirty on writing.
        MAP     0, FRAME | P | W
        mov     eax, [PAGE]
        CHECK   dword [TABLE1], e, FRAME | P | W | A
        mov     dword [PAGE], 0x11223344
        CHECK   dword [TABLE1], e, FRAME | P | W | A | D
        CHECK   dword [FRAME], e, 0x11223344
        and     dword [DIRECTORY + 4], ~A
        invlpg  [PAGE]
        mov     eax, [PAGE]
        test    dword [DIRECTORY + 4], A
        CHECK_FLAG nz

; Write protection of ring 0 is CR0.WP's business.
        MAP     0, FRAME | P
        mov     dword [PAGE], 0x55667788
        CHECK   dword [FRAME], e, 0x55667788
        mov     eax, cr0
        or      eax, 0x10000
        mov     cr0, eax
        PAGE_FAULT 3, PAGE, mov dword [PAGE], 0
        PAGE_FAULT 3, PAGE, add dword [PAGE], 1
        PAGE_FAULT 3, PAGE, xchg eax, [PAGE]
        CHECK   dword [FRAME], e, 0x55667788
        ; A compare-exchange that does not match writes too.
        mov     eax, 1
        PAGE_FAULT 3, PAGE, cmpxchg [PAGE], ecx
        mov     eax, cr0
        and     eax, ~0x10000
        mov     cr0, eax
        mov     dword [PAGE], 0

; Across two pages: nothing is written if the second one faults, and CR2 is the first byte there.
        MAP     0, FRAME | P | W
        MAP     1, 0
        mov     dword [PAGE + 0xFFC], 0xAAAAAAAA
        PAGE_FAULT 2, NEXT, mov dword [PAGE + 0xFFE], 0x55555555
        CHECK   dword [FRAME + 0xFFC], e, 0xAAAAAAAA
        PAGE_FAULT 0, NEXT, mov eax, [PAGE + 0xFFD]
        PAGE_FAULT 2, NEXT, add dword [PAGE + 0xFFF], 1
        CHECK   dword [FRAME + 0xFFC], e, 0xAAAAAAAA
        PAGE_FAULT 0, PAGE + 0x2FFF, mov eax, [PAGE + 0x2FFF]
        MAP     1, (FRAME + 0x5000) | P | W
        mov     dword [PAGE + 0xFFE], 0x12345678
        CHECK   word [FRAME + 0xFFE], e, 0x5678
        CHECK   word [FRAME + 0x5000], e, 0x1234
        CHECK   dword [PAGE + 0xFFE], e, 0x12345678

; The same frame at two addresses.
        MAP     2, FRAME | P | W
        mov     dword [PAGE + 0x2010], 0xBEEF
        CHECK   dword [PAGE + 0x10], e, 0xBEEF
; Remapped after INVLPG, after CR3.
        mov     dword [FRAME + 0x1020], 0x1111
        mov     dword [FRAME + 0x2020], 0x2222
        MAP     2, (FRAME + 0x1000) | P | W
        CHECK   dword [PAGE + 0x2020], e, 0x1111
        mov     dword [TABLE1 + 8], (FRAME + 0x2000) | P | W
        mov     eax, cr3
        mov     cr3, eax
        CHECK   dword [PAGE + 0x2020], e, 0x2222

; An instruction across two pages: fetch faults point to the second page.
        mov     byte [FRAME + 0xFFE], 0xB8      ; mov eax, imm32; ret
        mov     dword [FRAME + 0xFFF], 0x00000042
        mov     byte [FRAME + 0xFFF], 0x42
        mov     dword [FRAME + 0x5000], 0xC3000000
        MAP     1, 0
        mov     dword [resume], .across
        mov     [resume_esp], esp
        mov     dword [fault_vector], -1
        mov     ebx, PAGE + 0xFFE
        call    ebx
.across:
        CHECK   dword [fault_vector], e, 14
        CHECK   dword [fault_eip], e, PAGE + 0xFFE
        CHECK   dword [fault_cr2], e, NEXT
        mov     esp, [resume_esp]
        MAP     1, (FRAME + 0x5000) | P | W
        call    ebx
        CHECK   eax, e, 0x42
        ; Its second half lies elsewhere now.
        mov     dword [FRAME + 0x6000], 0xC3000001
        MAP     1, (FRAME + 0x6000) | P | W
        call    ebx
        CHECK   eax, e, 0x142

; Pages of 4 MiB, and their reserved bits.
        mov     eax, cr4
        or      eax, 0x10
        mov     cr4, eax
        mov     dword [DIRECTORY + 8], 0x00000083       ; 0x800000 is the first 4 MiB
        CHECK   dword [0x800000 + FRAME + 0x10], e, 0xBEEF
        mov     dword [0x800000 + FRAME + 0x10], 0xF00D
        CHECK   dword [FRAME + 0x10], e, 0xF00D
        CHECK   dword [DIRECTORY + 8], e, 0x000000E3
        mov     dword [DIRECTORY + 8], 0x00200083       ; bit 21 is reserved
        mov     eax, cr3
        mov     cr3, eax
        PAGE_FAULT 9, 0x800010, mov eax, [0x800010]
        PAGE_FAULT 11, 0x800010, mov [0x800010], eax
        mov     dword [DIRECTORY + 8], 0
        mov     eax, cr3
        mov     cr3, eax

; Global pages survive CR3 when CR4.PGE is set, and never INVLPG.
        mov     eax, cr4
        or      eax, 0x80
        mov     cr4, eax
        MAP     3, (FRAME + 0x1000) | P | W | 0x100
        CHECK   dword [PAGE + 0x3020], e, 0x1111
        MAP     3, (FRAME + 0x2000) | P | W | 0x100
        CHECK   dword [PAGE + 0x3020], e, 0x2222

; Ring 3: user and supervisor pages.
        mov     ax, TASK
        ltr     ax
        MAP     0, FRAME | P | W | U
        MAP     1, (FRAME + 0x1000) | P | U
        MAP     2, (FRAME + 0x2000) | P | W
        MAP     4, 0
        mov     esi, user_code
        mov     edi, FRAME
        mov     ecx, user_end - user_code
        rep     movsb

; IN_USER error code, CR2, code: runs a routine of the user page, which faults so.
%macro IN_USER 3
        mov     dword [resume], %%after
        mov     [resume_esp], esp
        mov     dword [fault_vector], -1
        mov     eax, cr2
        push    dword USER_DATA
        push    dword PAGE + 0xF00
        push    dword 2
        push    dword USER_CODE
        push    dword PAGE + %3 - user_code
        mov     ax, USER_DATA
        mov     ds, ax
        iret
%%after:
        CHECK   dword [fault_vector], e, 14
        CHECK   dword [fault_error], e, %1
        CHECK   dword [fault_cr2], e, %2
        CHECK   dword [fault_cs], e, USER_CODE
%endmacro
        IN_USER 5, PAGE + 0x2000, user_reads_supervisor
        IN_USER 7, PAGE + 0x2004, user_writes_supervisor
        IN_USER 7, PAGE + 0x1008, user_writes_read_only
        IN_USER 4, PAGE + 0x4000, user_reads_absent
        IN_USER 6, PAGE + 0x4000, user_writes_absent
        IN_USER 5, PAGE + 0x2000, user_jumps_supervisor
        CHECK   dword [fault_eip], e, PAGE + 0x2000
        ; The directory's entry counts as well.
        and     dword [DIRECTORY + 4], ~W
        mov     eax, cr3
        mov     cr3, eax
        IN_USER 7, PAGE + 0x800, user_writes_own
        PASS

; Position independent: runs in the page at PAGE.
user_code:
user_reads_supervisor:
        mov     eax, [PAGE + 0x2000]
        jmp     $
user_writes_supervisor:
        mov     [PAGE + 0x2004], eax
        jmp     $
user_writes_read_only:
        mov     eax, [PAGE + 0x1008]
        mov     [PAGE + 0x1008], eax
        jmp     $
user_reads_absent:
        mov     eax, [PAGE + 0x4000]
        jmp     $
user_writes_absent:
        mov     [PAGE + 0x4000], eax
        jmp     $
user_jumps_supervisor:
        mov     eax, PAGE + 0x2000
        jmp     eax
user_writes_own:
        mov     [PAGE + 0x800], eax
        jmp     $
user_end:
