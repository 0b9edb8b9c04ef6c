; CPUID: leaves agree with each other, features that are told exist, those that are not fault, XSAVE's numbers hold.
; Source: Intel SDM 2, CPUID.

%include "report.inc"
%include "protected.inc"

        REAL_MODE_START
; The ID flag can be changed.
        pushfd
        pop     eax
        mov     ebx, eax
        xor     eax, 0x200000
        push    eax
        popfd
        pushfd
        pop     eax
        xor     eax, ebx
        and     eax, 0x200000
        CHECK   eax, ne, 0
        ENTER_PROTECTED_MODE
        xor     eax, eax
        cpuid
        mov     [highest], eax
        CHECK   eax, ae, 1
        CHECK   eax, be, 0x40
        CHECK   ebx, ne, 0
; Printable vendor.
        mov     [vendor], ebx
        mov     [vendor + 4], edx
        mov     [vendor + 8], ecx
        mov     esi, vendor
        mov     ecx, 12
.vendor:
        lodsb
        CHECK   al, ae, ' '
        CHECK   al, b, 0x7F
        loop    .vendor
        mov     eax, 1
        cpuid
        mov     [features_c], ecx
        mov     [features_d], edx
        CHECK   eax, ne, 0
        shr     eax, 8
        and     eax, 0xF
        CHECK   eax, ae, 5              ; family
        and     edx, 0x078BFBFF & 0x0180A979
        CHECK   edx, e, 0x078BFBFF & 0x0180A979 ; FPU, PSE, TSC, MSR, PAE, CX8, APIC, PGE, CMOV, MMX, FXSR
        mov     eax, 0x80000000
        cpuid
        CHECK   eax, ae, 0x80000001
        mov     eax, 0x80000001
        cpuid
        test    edx, 1 << 29            ; long mode
        CHECK_FLAG nz
        ; Leaves above the highest answer as the highest basic one, or nothing: they do not fault.
        mov     eax, 0x7FFFFFFF
        cpuid
; The time-stamp counter goes on.
        rdtsc
        mov     ebx, eax
        mov     ecx, edx
        rdtsc
        sub     eax, ebx
        sbb     edx, ecx
        CHECK   edx, e, 0
; CMPXCHG8B and CMOV, as told.
        mov     eax, [number]
        mov     edx, [number + 4]
        mov     ebx, 0x11111111
        mov     ecx, 0x22222222
        lock cmpxchg8b [number]
        CHECK_FLAG z
        CHECK   dword [number + 4], e, 0x22222222
        cmp     eax, eax
        cmovne  eax, ebx
        cmove   ecx, ebx
        CHECK   ecx, e, 0x11111111
; POPCNT, MOVBE, RDRAND only if told; else no instruction.
%macro TOLD 3+                          ; register, bit, instruction
        mov     eax, [%1]
        test    eax, 1 << (%2)
        jnz     %%there
        FAULTS  6, 0, %3
        jmp     %%done
%%there: %3
%%done:
%endmacro
        mov     ecx, 0xF0F0
        TOLD    features_c, 23, popcnt eax, ecx
        TOLD    features_c, 22, movbe eax, [number]
        TOLD    features_c, 30, rdrand eax
; XSAVE only with CR4.OSXSAVE, which the leaf mirrors.
        test    dword [features_c], 1 << 26
        jz      .no_xsave
        xor     ecx, ecx
        FAULTS  6, 0, xgetbv
        mov     eax, cr4
        or      eax, 1 << 18
        mov     cr4, eax
        mov     eax, 1
        cpuid
        test    ecx, 1 << 27
        CHECK_FLAG nz
        xor     ecx, ecx
        xgetbv
        CHECK   eax, e, 1
        mov     eax, 3
        xsetbv
        xgetbv
        CHECK   eax, e, 3
        mov     eax, 2                  ; x87 must stay
        FAULTS  13, 0, xsetbv
        mov     eax, 13
        xor     ecx, ecx
        cpuid
        CHECK   ebx, ae, 576            ; size for what is enabled
        CHECK   ecx, ae, ebx            ; and for all there is
.no_xsave:
        ; CR4 bits of features that are not told are reserved.
        mov     eax, cr4
        or      eax, 1 << 15
        FAULTS  13, 0, mov cr4, eax
        PASS

        align   8
number: dd      0x12345678, 0x9ABCDEF0
highest: dd     0
features_c: dd  0
features_d: dd  0
vendor: times 12 db 0
