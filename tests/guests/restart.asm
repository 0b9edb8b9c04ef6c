; Instructions that touch two pages of which one is absent: the page fault finds every register as it was before, the
; handler brings the page, and the instruction begins again and does all of its work. In ring 3, so that stacks can
; fault as well. Source: Intel SDM 3A, 6.5 and 6.6.

%include "report.inc"
%include "protected.inc"

DIRECTORY equ 0x10000
TABLE0  equ 0x11000
TABLE1  equ 0x12000
FRAMES  equ 0x20000
LOW_PAGE equ 0x400000
EDGE    equ 0x401000                    ; between the two pages
BEFORE  equ 0x5000                      ; EDI, ESI, EBP, ESP, EBX, EDX, ECX, EAX, EIP, flags as they must be
ARITHMETIC equ 0x8D5

; RESTARTS page (0 or 1), instruction: that page is absent when it begins.
%macro RESTARTS 2+
        mov     dword [BEFORE + 32], %%at
        mov     [absent], dword %1
        int     0x31
%%at:   %2
        call    check
%endmacro
; ON_EDGE distance: ESP is so far above the edge. OFF_EDGE: the old stack.
%macro ON_EDGE 1
        mov     [own_esp], esp
        mov     esp, EDGE + (%1)
%endmacro
%macro OFF_EDGE 0
        mov     esp, [own_esp]
%endmacro
; As RESTARTS, on the edge's stack, which is kept in stack_after.
%macro STACK_RESTARTS 3+                ; page, distance, instruction
        mov     dword [BEFORE + 32], %%at
        mov     [absent], dword %1
        ON_EDGE %2
        int     0x31
%%at:   %3
        mov     [stack_after], esp
        OFF_EDGE
        call    check
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     edi, DIRECTORY
        mov     ecx, 3 * 1024
        xor     eax, eax
        rep     stosd
        mov     edi, TABLE0
        mov     ecx, 1024
        mov     eax, 7
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [DIRECTORY], TABLE0 | 7
        mov     dword [DIRECTORY + 4], TABLE1 | 7
        mov     dword [TABLE1], FRAMES | 7
        mov     dword [TABLE1 + 4], FRAMES + 0x1000 | 7
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        and     eax, ~0xC
        or      eax, 0x80010000
        mov     cr0, eax
        mov     eax, cr4
        or      eax, 0x200              ; OSFXSR
        mov     cr4, eax
        fninit
        SET_GATE 0x31, CODE32, take_away, 0xEE00
        SET_GATE 14, CODE32, bring, 0x8E00
        mov     ax, TASK
        ltr     ax
        push    dword USER_DATA
        push    dword 0x7000
        push    dword 0x3002
        push    dword USER_CODE
        push    dword user
        mov     ax, USER_DATA
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        iret
user:
; Loads, stores, and both at once.
%assign page 0
%rep 2
        mov     ebx, EDGE - 2
        mov     dword [ebx], 0x44332211
        RESTARTS page, mov eax, [ebx]
        CHECK   eax, e, 0x44332211
        RESTARTS page, mov dword [ebx], 0x88776655
        CHECK   dword [ebx], e, 0x88776655
        stc
        RESTARTS page, adc dword [ebx], 1
        CHECK   dword [ebx], e, 0x88776657
        mov     eax, 0x99999999
        RESTARTS page, xchg eax, [ebx]
        CHECK   eax, e, 0x88776657
        mov     eax, 1
        RESTARTS page, lock xadd [ebx], eax
        CHECK   eax, e, 0x99999999
        CHECK   dword [ebx], e, 0x9999999A
        mov     eax, 0x9999999A
        mov     ecx, 5
        RESTARTS page, lock cmpxchg [ebx], ecx
        CHECK   dword [ebx], e, 5
        mov     ecx, 31
        RESTARTS page, bts dword [ebx], ecx
        CHECK   dword [ebx], e, 0x80000005
        RESTARTS page, shl dword [ebx], 1
        CHECK   dword [ebx], e, 10
        mov     edx, 0
        mov     eax, 1000
        RESTARTS page, div dword [ebx]
        CHECK   eax, e, 100
        lea     esi, [ebx - 2]
        mov     eax, [esi]
        mov     edx, [esi + 4]
        push    ebx
        mov     ebx, 0x12121212
        mov     ecx, 0x34343434
        RESTARTS page, lock cmpxchg8b [esi]
        pop     ebx
        CHECK   dword [esi], e, 0x12121212
        CHECK   dword [esi + 4], e, 0x34343434
; Two operands in memory.
        mov     esi, ebx
        mov     edi, 0x5100
        RESTARTS page, movsd
        CHECK   dword [0x5100], e, 0x34341212
        CHECK   esi, e, EDGE + 2
        mov     esi, 0x5100
        mov     edi, ebx
        mov     dword [0x5100], 0xABCDEF01
        RESTARTS page, movsd
        CHECK   dword [ebx], e, 0xABCDEF01
        mov     esi, 0x5100
        mov     edi, ebx
        RESTARTS page, cmpsd
        CHECK_FLAG e
        mov     edi, ebx
        mov     eax, 0xABCDEF01
        RESTARTS page, scasd
        CHECK_FLAG e
; Far pointers, bounds, tables.
        mov     dword [ebx], 0x13572468
        mov     word [ebx + 4], USER_DATA
        RESTARTS page, les eax, [ebx]
        CHECK   eax, e, 0x13572468
        mov     dword [ebx - 2], 5
        mov     dword [ebx + 2], 10
        mov     eax, 7
        RESTARTS page, bound eax, [ebx - 2]
        RESTARTS page, sgdt [ebx]
        CHECK   word [ebx], e, gdt_end - gdt - 1
        CHECK   dword [ebx + 2], e, gdt
; x87 and SSE.
        fld1
        fld1
        RESTARTS page, fstp qword [ebx]
        RESTARTS page, fadd qword [ebx]
        RESTARTS page, fstp tword [ebx - 3]
        CHECK   word [ebx + 5], e, 0x4000       ; 2.0
        RESTARTS page, fld tword [ebx - 3]
        RESTARTS page, fnstenv [ebx - 10]
        RESTARTS page, fldenv [ebx - 10]
        RESTARTS page, fnsave [ebx - 50]
        RESTARTS page, frstor [ebx - 50]
        fstp    st0
        RESTARTS page, fxsave [EDGE - 256]
        RESTARTS page, fxrstor [EDGE - 256]
        mov     dword [0x5110], 0x01234567
        movups  xmm0, [0x5110]
        RESTARTS page, movups [ebx - 5], xmm0
        CHECK   dword [ebx - 5], e, 0x01234567
        RESTARTS page, movups xmm1, [ebx - 5]

; Stacks: downwards and upwards.
        mov     eax, 0xAAAAAAAA
        STACK_RESTARTS page, 2, push eax
        CHECK   dword [EDGE - 2], e, 0xAAAAAAAA
        CHECK   dword [stack_after], e, EDGE - 2
        mov     ecx, 0xCCCCCCCC
        STACK_RESTARTS page, 14, pusha
        CHECK   dword [EDGE + 6], e, 0xCCCCCCCC
        CHECK   dword [stack_after], e, EDGE - 18
        xor     ecx, ecx
        STACK_RESTARTS page, -18, popa
        CHECK   ecx, e, 0xCCCCCCCC
        CHECK   dword [stack_after], e, EDGE + 14
        STACK_RESTARTS page, -2, pop ecx
        STACK_RESTARTS page, 2, push dword [0x5100]
        STACK_RESTARTS page, 2, pushf
        STACK_RESTARTS page, -2, popf
        mov     ebp, 0x5200
        STACK_RESTARTS page, 6, enter 16, 3
        CHECK   dword [stack_after], e, EDGE + 6 - 16 - 16
        CHECK   ebp, e, EDGE + 2
        mov     ebp, EDGE - 2
        mov     dword [EDGE - 2], 0x5200
        STACK_RESTARTS page, -64, leave
        CHECK   ebp, e, 0x5200
        CHECK   dword [stack_after], e, EDGE + 2
%assign page page + 1
%endrep
        PASS

; Ring 0: the registers as they are now are those that must be; and the page goes.
take_away:
        pusha
        mov     esi, esp
        mov     edi, BEFORE
        mov     ecx, 8
        rep     movsd
        mov     eax, [esp + 32 + 12]
        mov     [BEFORE + 12], eax      ; the outer ESP
        mov     eax, [esp + 32 + 8]
        mov     [BEFORE + 36], eax
        mov     eax, [absent]
        mov     dword [TABLE1 + 4 * eax], 0
        shl     eax, 12
        invlpg  [LOW_PAGE + eax]
        mov     dword [faults], 0
        popa
        iret
; Page fault: compares, brings the page, and lets it begin again.
bring:  pusha
        mov     eax, [esp + 32 + 4 + 12]
        mov     [esp + 12], eax
        mov     esi, esp
        mov     edi, BEFORE
        mov     ecx, 8
        repe    cmpsd
        CHECK_FLAG e
        mov     eax, [esp + 32 + 4]
        CHECK   eax, e, [BEFORE + 32]
        mov     eax, [esp + 32 + 4 + 8]
        xor     eax, [BEFORE + 36]
        test    eax, ARITHMETIC | 0x400
        CHECK_FLAG z
        mov     eax, cr2
        shr     eax, 12
        and     eax, 1
        CHECK   eax, e, [absent]
        mov     edx, eax
        shl     edx, 12
        add     edx, FRAMES | 7
        mov     [TABLE1 + 4 * eax], edx
        inc     dword [faults]
        popa
        add     esp, 4
        iret
check:  pushf
        CHECK   dword [faults], e, 1
        popf
        ret

        align   4
absent: dd      0
faults: dd      0
own_esp: dd     0
stack_after: dd 0
