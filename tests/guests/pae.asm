; PAE paging without long mode: page-directory pointers loaded with CR3, 2 MiB and 4 KiB pages, NX, reserved bits.
; Source: Intel SDM 3A, 5.4.

%include "report.inc"
%include "protected.inc"

POINTERS equ 0x10020                    ; 32-byte aligned
DIRECTORY0 equ 0x11000
DIRECTORY3 equ 0x12000
TABLE   equ 0x13000

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     edi, 0x10000
        mov     ecx, 0x4000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [POINTERS], DIRECTORY0 | 1
        mov     dword [POINTERS + 24], DIRECTORY3 | 1
        mov     dword [DIRECTORY0], 0x83        ; 2 MiB identity
        mov     dword [DIRECTORY3], TABLE | 3   ; 0xC0000000
        mov     dword [TABLE], 0x20003
        mov     eax, cr4
        or      eax, 0x20
        mov     cr4, eax
        mov     eax, POINTERS
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     dword [0xC0000010], 0x1234
        CHECK   dword [0x20010], e, 0x1234
        CHECK   dword [TABLE], e, 0x20063
        FAULTS  14, 0, mov eax, [0xC0001000]
        CHECK   dword [fault_cr2], e, 0xC0001000
        FAULTS  14, 0, mov eax, [0x40000000]    ; its pointer is not present
        FAULTS  14, 2, mov [0x200000], eax
; The pointers are read when CR3 is loaded, not later.
        mov     dword [POINTERS + 8], DIRECTORY0 | 1
        FAULTS  14, 0, mov eax, [0x40020010]
        mov     eax, cr3
        mov     cr3, eax
        CHECK   dword [0x40020010], e, 0x1234
        mov     dword [POINTERS + 8], DIRECTORY0 | 3    ; bit 1 is reserved
        mov     eax, cr3
        FAULTS  13, 0, mov cr3, eax
        mov     dword [POINTERS + 8], 0
; NX.
        mov     byte [0x20000], 0xC3
        mov     eax, 0xC0000000
        call    eax
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800
        wrmsr
        mov     dword [TABLE + 4], 0x80000000
        invlpg  [0xC0000000]
        mov     dword [resume], .no_execute
        mov     [resume_esp], esp
        mov     eax, 0xC0000000
        call    eax
.no_execute:
        CHECK   dword [fault_vector], e, 14
        CHECK   dword [fault_error], e, 0x11
        CHECK   dword [fault_eip], e, 0xC0000000
        mov     esp, [resume_esp]
        mov     dword [resume], 0
        mov     eax, [0xC0000010]
; Reserved bits of a large page.
        mov     dword [DIRECTORY3 + 8], 0x00002083
        mov     dword [DIRECTORY3 + 12], 0
        FAULTS  14, 9, mov eax, [0xC0200000]
        PASS
