; Protected mode without paging: segment loads and limits, their faults and error codes, system instructions.
; Source: Intel SDM 3A, chapters 3, 5 and 6.

%include "report.inc"
%include "protected.inc"

        REAL_MODE_START
        ENTER_PROTECTED_MODE

; Exceptions without a segment in them.
        FAULTS  6, 0, ud2
        xor     ecx, ecx
        FAULTS  0, 0, div ecx
        TRAPS   3, int3
        TRAPS   0x21, int 0x21
        mov     al, 0x7F
        add     al, 1
        TRAPS   4, into
        mov     ecx, 9
        FAULTS  5, 0, bound ecx, [bounds]
        FAULTS  6, 0, db 0xF0, 0x01, 0xC8 ; lock add eax, ecx

; Selectors: beyond the table, wrong type, not present, null.
        mov     eax, 0x1000
        FAULTS  13, 0x1000, mov ds, ax
        mov     eax, CODE32
        FAULTS  13, CODE32, mov ss, ax
        mov     eax, TASK
        FAULTS  13, TASK, mov es, ax
        xor     eax, eax
        FAULTS  13, 0, mov ss, ax
        mov     eax, 0x1003             ; the error code has no RPL
        FAULTS  13, 0x1000, mov fs, ax
        mov     eax, LDT | 4
        FAULTS  13, LDT | 4, mov ds, ax ; there is no LDT yet
        mov     dword [spare_descriptor], 0x0000FFFF
        mov     dword [spare_descriptor + 4], 0x00C01300
        mov     eax, SPARE
        FAULTS  11, SPARE, mov ds, ax
        FAULTS  12, SPARE, mov ss, ax
        xor     eax, eax
        mov     fs, ax                  ; null can be loaded and not used
        FAULTS  13, 0, mov eax, [fs:0]

; The accessed bit is set by a load.
        mov     dword [spare_descriptor + 4], 0x00C09200
        mov     eax, SPARE
        mov     fs, ax
        CHECK   byte [spare_descriptor + 5], e, 0x93

; Limits: byte granular, up and down, read only, execute only.
        mov     dword [spare_descriptor], 0x80000100    ; base 0x8000, limit 0x100
        mov     dword [spare_descriptor + 4], 0x00409200
        mov     fs, ax
        mov     al, [fs:0x100]
        mov     eax, [fs:0xFD]
        FAULTS  13, 0, mov al, [fs:0x101]
        FAULTS  13, 0, mov eax, [fs:0xFE]
        FAULTS  13, 0, mov al, [fs:0xFFFFFFFF]
        mov     eax, SPARE
        mov     byte [spare_descriptor + 5], 0x96       ; expands down: 0x101 to 0xFFFFFFFF
        mov     fs, ax
        mov     al, [fs:0x101]
        FAULTS  13, 0, mov al, [fs:0x100]
        mov     eax, SPARE
        mov     byte [spare_descriptor + 6], 0x00       ; to 0xFFFF
        mov     fs, ax
        mov     al, [fs:0xFFFF]
        FAULTS  13, 0, mov al, [fs:0x10000]
        mov     eax, SPARE
        mov     byte [spare_descriptor + 5], 0x90       ; read only
        mov     byte [spare_descriptor + 6], 0x40
        mov     fs, ax
        mov     al, [fs:0]
        FAULTS  13, 0, mov [fs:0], al
        FAULTS  13, 0, mov byte [cs:0x500], 1
        mov     eax, SPARE
        mov     byte [spare_descriptor + 5], 0x98       ; execute only
        FAULTS  13, 0, mov al, [fs:0x101]
        mov     eax, SPARE
        FAULTS  13, SPARE, mov fs, ax
; A limit of the stack segment is #SS.
        mov     byte [spare_descriptor + 5], 0x92
        mov     eax, SPARE
        mov     ecx, esp
        mov     ss, ax
        mov     esp, 0x80
        mov     ebp, 0x101
        FAULTS  12, 0, mov al, [ebp]    ; goes on with the flat stack segment
        mov     esp, ecx

; LAR, LSL, VERR, VERW, ARPL.
        mov     ecx, CODE32
        lar     eax, ecx
        CHECK_FLAG z
        CHECK   eax, e, 0x00CF9B00
        lsl     eax, ecx
        CHECK_FLAG z
        CHECK   eax, e, 0xFFFFFFFF
        verr    cx
        CHECK_FLAG z
        verw    cx
        CHECK_FLAG nz
        mov     ecx, DATA32
        verw    cx
        CHECK_FLAG z
        mov     ecx, 0x1000
        lar     eax, ecx
        CHECK_FLAG nz
        xor     ecx, ecx
        lsl     eax, ecx
        CHECK_FLAG nz
        mov     eax, 0x10
        mov     ecx, 0x03
        arpl    ax, cx
        CHECK_FLAG z
        CHECK   eax, e, 0x13
        arpl    ax, cx
        CHECK_FLAG nz

; LDT and TR.
        mov     dword [ldt + 8], 0x0000FFFF
        mov     dword [ldt + 12], 0x00CF9200
        mov     ax, LDT
        lldt    ax
        sldt    cx
        CHECK   cx, e, LDT
        mov     ax, 0x0C                ; entry 1 of the LDT
        mov     gs, ax
        mov     eax, [gs:gdt + 8]
        CHECK   eax, e, 0x0000FFFF
        mov     ax, TASK
        ltr     ax
        str     cx
        CHECK   cx, e, TASK
        CHECK   byte [task_descriptor + 5], e, 0x8B     ; busy
        FAULTS  13, TASK, ltr ax
        mov     ax, DATA32
        FAULTS  13, DATA32, lldt ax

; Far transfers and their faults.
        FAULTS  13, 0x1000, jmp 0x1000:0
        FAULTS  13, DATA32, jmp DATA32:0
        FAULTS  13, 0, jmp 0:0
        mov     dword [spare_descriptor], 0x0000FFFF
        mov     dword [spare_descriptor + 4], 0x00CF1A00
        FAULTS  11, SPARE, call SPARE:0
        mov     dword [spare_descriptor + 4], 0x00409A00
        FAULTS  13, 0, jmp SPARE:0x10000                ; beyond its limit
        call    CODE32:far_routine
        CHECK   eax, e, 0x1234
        push    dword DATA32
        push    dword 0
        FAULTS  13, DATA32, retf
        add     esp, 8
        ; The interrupt table: not present, beyond its limit, not a gate.
        mov     dword [IDT + 8 * 0x30 + 4], 0x0E00
        FAULTS  11, 8 * 0x30 + 2, int 0x30
        mov     dword [IDT + 8 * 0x30 + 4], 0x8200
        FAULTS  13, 8 * 0x30 + 2, int 0x30
        mov     word [idtr], 8 * 0x30 - 1
        lidt    [idtr]
        FAULTS  13, 8 * 0x30 + 2, int 0x30
        sidt    [0x900]
        CHECK   word [0x900], e, 8 * 0x30 - 1
        CHECK   dword [0x902], e, IDT
        sgdt    [0x900]
        CHECK   word [0x900], e, gdt_end - gdt - 1

; Control registers.
        mov     eax, cr0
        or      eax, 0x80000000
        and     eax, 0xFFFFFFFE
        FAULTS  13, 0, mov cr0, eax     ; paging without protection
        mov     eax, cr4
        or      eax, 0x80000000
        FAULTS  13, 0, mov cr4, eax
        FAULTS  6, 0, mov cr1, eax
        mov     eax, cr0
        or      al, 4                   ; EM
        mov     cr0, eax
        FAULTS  7, 0, fnop
        and     al, 0xFB
        or      al, 8                   ; TS
        mov     cr0, eax
        FAULTS  7, 0, fnop
        clts
        smsw    ax
        and     al, 0x0D
        CHECK   al, e, 1
        mov     ecx, 0xC0000F00
        FAULTS  13, 0, rdmsr
        FAULTS  13, 0, wrmsr

; A code segment of 16 bits and back.
        jmp     CODE16:in16
        bits    16
in16:   mov     ax, 0xFFFF
        add     ax, 1
        CHECK   ax, e, 0
        jmp     dword CODE32:in32
        bits    32
in32:
; Leaving protected mode keeps limits and sizes until segments are loaded: unreal mode.
        jmp     CODE16:leave16
        bits    16
leave16:
        mov     eax, cr0
        and     al, 0xFE
        mov     cr0, eax
        jmp     0:real
real:   mov     dword [dword 0x200000], 0xCAFE0000      ; DS is still flat
        a32 mov eax, [dword 0x200000]
        CHECK   eax, e, 0xCAFE0000
        xor     ax, ax
        mov     ds, ax                  ; changes base and selector, not the limit
        a32 mov eax, [dword 0x200000]
        CHECK   eax, e, 0xCAFE0000
        mov     ss, ax
        mov     esp, 0x7C00
        PASS

        bits    32
far_routine:
        mov     eax, 0x1234
        retf
bounds: dd      0, 8
