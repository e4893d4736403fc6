/* Counts the guest instructions that one thread executes between two marker system calls, by kind.
 *
 * A plugin of QEMU's user mode emulation. The guest marks the start with write(9999, p, 1) and the
 * end with write(9999, p, 2); such a write fails with EBADF and does nothing else. At each end one
 * line of JSON is appended to the host's file that the environment variable EDGECOMPRESS_COUNTS
 * names. Only the thread that marked the start is counted: what other threads do is no part of an
 * inference, and would not be the same twice.
 *
 * Instructions are told apart by their encodings: Arm Architecture Reference Manual for A-profile
 * (C4.1) and Intel Software Developer's Manual (volume 2, appendix A). A kind says what the
 * instruction is, not how much work it does: a vector of 16 products counts 1.
 *
 * The text is our own. It meets QEMU through the public interface for plugins only: the handful of
 * functions below. It takes no header of QEMU or of the C library, and links to nothing: the
 * process that loads it has both.
 */

#include <stddef.h>
#include <stdint.h>

#ifndef QEMU_API /* which version of the interface the host's QEMU offers */
#define QEMU_API 1
#endif

#define MARKER_FILE 9999

/* --- QEMU's interface ------------------------------------------------------------------------ */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct info { /* the first member of qemu_info_t; nothing behind it is read */
    const char *target_name;
};

typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*executed)(unsigned int cpu, void *data);
typedef void (*called)(plugin_id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                       uint64_t a8);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
#if QEMU_API < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#endif

int qemu_plugin_version = QEMU_API;

/* --- the C library's, which is in the process ------------------------------------------------- */

void *calloc(size_t, size_t);
char *getenv(const char *);
int strcmp(const char *, const char *);
void *memcpy(void *, const void *, size_t);
int snprintf(char *, size_t, const char *, ...);
int open(const char *, int, ...);
long write(int, const void *, size_t);
int close(int);

#define APPEND 02001 /* O_WRONLY | O_APPEND, the same number on every Linux that hosts QEMU */

/* --- counting -------------------------------------------------------------------------------- */

enum kind { ALL, DOT_PRODUCT, FMA, MULTIPLY_ADD, LOAD_STORE, KINDS };

struct counts {
    uint64_t of[KINDS];
};

static int is_arm;
static int64_t write_number;
static int counting;
static unsigned int counted_cpu;
static struct counts total;

static void run(unsigned int cpu, void *data)
{
    const struct counts *block = data;
    if (!counting || cpu != counted_cpu) {
        return;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        total.of[kind] += block->of[kind];
    }
}

static void report(void)
{
    const char *file = getenv("EDGECOMPRESS_COUNTS");
    char line[256];
    int length = snprintf(line, sizeof line,
                          "{\"all\": %llu, \"dot_product\": %llu, \"fma\": %llu, "
                          "\"multiply_add\": %llu, \"load_store\": %llu}\n",
                          (unsigned long long)total.of[ALL],
                          (unsigned long long)total.of[DOT_PRODUCT],
                          (unsigned long long)total.of[FMA],
                          (unsigned long long)total.of[MULTIPLY_ADD],
                          (unsigned long long)total.of[LOAD_STORE]);
    int out = file ? open(file, APPEND) : -1;
    if (out >= 0) { /* a line that is missing or cut off is noticed by its reader */
        if (write(out, line, (size_t)length) != length) {
            counting = 0;
        }
        close(out);
    }
}

static void system_call(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2,
                        uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                        uint64_t a8)
{
    (void)id, (void)a2, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != write_number || a1 != MARKER_FILE) {
        return;
    }
    if (a3 == 1) {
        for (int kind = 0; kind < KINDS; kind++) {
            total.of[kind] = 0;
        }
        counted_cpu = cpu;
        counting = 1;
    } else if (counting && cpu == counted_cpu) {
        counting = 0;
        report();
    }
}

/* --- AArch64 --------------------------------------------------------------------------------- */

struct pattern {
    uint32_t mask, value;
    enum kind kind;
};

static const struct pattern arm_patterns[] = {
    {0x9fe0fc00, 0x0e809400, DOT_PRODUCT},  /* SDOT, UDOT (vectors) */
    {0x9fc0f400, 0x0f80e000, DOT_PRODUCT},  /* SDOT, UDOT (by element) */
    {0xbfe0fc00, 0x0e809c00, DOT_PRODUCT},  /* USDOT (vectors) */
    {0xbf40f400, 0x0f00f000, DOT_PRODUCT},  /* USDOT, SUDOT (by element) */
    {0xdfe0fc00, 0x4e80a400, DOT_PRODUCT},  /* SMMLA, UMMLA */
    {0xffe0fc00, 0x4e80ac00, DOT_PRODUCT},  /* USMMLA */
    {0xff000000, 0x1f000000, FMA},          /* FMADD, FMSUB, FNMADD, FNMSUB */
    {0xbf20fc00, 0x0e20cc00, FMA},          /* FMLA, FMLS (vectors) */
    {0xbf60fc00, 0x0e400c00, FMA},          /* FMLA, FMLS (vectors of halves) */
    {0xbf80b400, 0x0f801000, FMA},          /* FMLA, FMLS (by element) */
    {0xbfc0b400, 0x0f001000, FMA},          /* FMLA, FMLS (by element, halves) */
    {0xff80b400, 0x5f801000, FMA},          /* FMLA, FMLS (scalar by element) */
    {0xffc0b400, 0x5f001000, FMA},          /* FMLA, FMLS (scalar by element, halves) */
    {0xbf60fc00, 0x0e20ec00, FMA},          /* FMLAL, FMLSL (vectors) */
    {0xbf60fc00, 0x2e20cc00, FMA},          /* FMLAL2, FMLSL2 (vectors) */
    {0xbfc0b400, 0x0f800000, FMA},          /* FMLAL, FMLSL (by element) */
    {0xbfc0b400, 0x2f808000, FMA},          /* FMLAL2, FMLSL2 (by element) */
    {0x9f20fc00, 0x0e209400, MULTIPLY_ADD}, /* MLA, MLS (vectors) */
    {0xbf00b400, 0x2f000000, MULTIPLY_ADD}, /* MLA, MLS (by element) */
    {0x9f20cc00, 0x0e208000, MULTIPLY_ADD}, /* SMLAL, UMLAL, SMLSL, UMLSL, SQDMLAL, SQDMLSL */
    {0x9f00b400, 0x0f002000, MULTIPLY_ADD}, /* SMLAL, UMLAL, SMLSL, UMLSL (by element) */
    {0xbf00b400, 0x0f003000, MULTIPLY_ADD}, /* SQDMLAL, SQDMLSL (by element) */
    {0x0a000000, 0x08000000, LOAD_STORE},   /* the whole group "Loads and Stores" */
};

static void classify_arm(const uint8_t *code, struct counts *into)
{
    uint32_t word;
    memcpy(&word, code, sizeof word); /* AArch64 code is little-endian, as are QEMU's hosts here */
    for (size_t i = 0; i < sizeof arm_patterns / sizeof *arm_patterns; i++) {
        if ((word & arm_patterns[i].mask) == arm_patterns[i].value) {
            into->of[arm_patterns[i].kind]++;
            return;
        }
    }
}

/* --- x86-64 ---------------------------------------------------------------------------------- */

struct x86 {
    int vector; /* encoded with a VEX or EVEX prefix */
    int map;    /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    int prefix; /* 0: none, 1: 66, 2: F3, 3: F2 */
    int opcode;
    int modrm;
};

/* Read prefixes, opcode and ModRM; whatever is cut off reads as 0. */
static struct x86 decode_x86(const uint8_t *code, size_t size)
{
    struct x86 found = {0, 0, 0, 0, 0};
    size_t at = 0;
#define BYTE(index) ((index) < size ? code[index] : 0)
    for (;; at++) {
        int byte = BYTE(at);
        if (byte == 0x66) {
            found.prefix = found.prefix ? found.prefix : 1;
        } else if (byte == 0xf3 || byte == 0xf2) {
            found.prefix = byte == 0xf3 ? 2 : 3;
        } else if (byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x26 && byte != 0x64 &&
                   byte != 0x65 && byte != 0x67 && byte != 0xf0) {
            break;
        }
    }
    if (BYTE(at) == 0xc5) {
        found.vector = 1, found.map = 1, found.prefix = BYTE(at + 1) & 3, at += 2;
    } else if (BYTE(at) == 0xc4) {
        found.vector = 1, found.map = BYTE(at + 1) & 31, found.prefix = BYTE(at + 2) & 3, at += 3;
    } else if (BYTE(at) == 0x62) {
        found.vector = 1, found.map = BYTE(at + 1) & 7, found.prefix = BYTE(at + 2) & 3, at += 4;
    } else {
        at += (BYTE(at) & 0xf0) == 0x40; /* REX */
        if (BYTE(at) == 0x0f) {
            found.map = 1, at++;
            if (BYTE(at) == 0x38 || BYTE(at) == 0x3a) {
                found.map = BYTE(at) == 0x38 ? 2 : 3, at++;
            }
        }
    }
    found.opcode = BYTE(at);
    found.modrm = BYTE(at + 1);
#undef BYTE
    return found;
}

/* Whether an instruction reads or writes memory; address arithmetic and prefetches do not. */
static int touches_memory(struct x86 in)
{
    int op = in.opcode, in_memory = (in.modrm & 0xc0) != 0xc0, digit = (in.modrm >> 3) & 7;
    if (in.vector) {
        return !(in.map == 1 && op == 0x77) && in_memory; /* VZEROUPPER has no operands */
    }
    if (in.map >= 2) {
        return in_memory;
    }
    if (in.map == 1) {
        if (op == 0xa0 || op == 0xa1 || op == 0xa8 || op == 0xa9) {
            return 1; /* PUSH and POP of FS and GS */
        }
        if (op < 0x10 ? op > 3 : op >= 0x18 && op <= 0x1f) {
            return 0; /* SYSCALL and its like, PREFETCH, NOP */
        }
        if ((op >= 0x30 && op <= 0x37) || op == 0x77 || (op >= 0x80 && op <= 0x8f) ||
            op == 0xa2 || op == 0xaa || (op >= 0xc8 && op <= 0xcf) || op == 0x0b) {
            return 0; /* RDTSC and its like, EMMS, jumps, CPUID, RSM, BSWAP, UD2 */
        }
        if (op == 0xae && digit >= 5 && !in_memory) {
            return 0; /* fences */
        }
        return in_memory;
    }
    if (op < 0x40) {
        return (op & 7) < 4 && in_memory; /* ADD … CMP */
    }
    if ((op >= 0x50 && op <= 0x5f) || op == 0x68 || op == 0x6a || (op >= 0xa0 && op <= 0xa7) ||
        (op >= 0xaa && op <= 0xaf) || op == 0xc2 || op == 0xc3 || op == 0xc8 || op == 0xc9 ||
        op == 0x9c || op == 0x9d || op == 0xe8 || op == 0xd7) {
        return 1; /* PUSH, POP, strings, CALL, RET, ENTER, LEAVE, XLAT */
    }
    if (op == 0xff && (digit == 2 || digit == 6)) {
        return 1; /* CALL and PUSH through a register */
    }
    if (op == 0x63 || op == 0x69 || op == 0x6b || op == 0xc0 || op == 0xc1 || op == 0xc6 ||
        op == 0xc7 || (op >= 0xd0 && op <= 0xd3) || (op >= 0xd8 && op <= 0xdf) || op == 0xf6 ||
        op == 0xf7 || op == 0xfe || op == 0xff || (op >= 0x80 && op <= 0x8f && op != 0x8d)) {
        return in_memory;
    }
    return 0;
}

static void classify_x86(const uint8_t *code, size_t size, struct counts *into)
{
    struct x86 in = decode_x86(code, size);
    int low = in.opcode & 15, high = in.opcode >> 4;
    if (in.vector && in.map == 2) {
        if ((in.opcode >= 0x50 && in.opcode <= 0x53 && in.prefix == 1) || /* VPDPBUSD, VPDPWSSD */
            ((in.opcode == 0x50 || in.opcode == 0x51) && in.prefix != 1) || /* AVX-VNNI-INT8 */
            ((in.opcode == 0xd2 || in.opcode == 0xd3)) ||                   /* AVX-VNNI-INT16 */
            in.opcode == 0x5e) {                                            /* AMX: TDPBSSD … */
            into->of[DOT_PRODUCT]++;
        } else if (in.prefix == 1 && (high == 9 || high == 0xa || high == 0xb) && low >= 6) {
            into->of[FMA]++; /* VFMADD132PS … VFNMSUB231SD */
        }
    }
    if ((in.map == 1 && in.opcode == 0xf5 && in.prefix <= 1) ||
        (in.map == 2 && in.opcode == 0x04 && in.prefix <= 1)) {
        into->of[MULTIPLY_ADD]++; /* PMADDWD, PMADDUBSW */
    }
    if (touches_memory(in)) {
        into->of[LOAD_STORE]++;
    }
}

/* --- translation ----------------------------------------------------------------------------- */

static void translate(plugin_id id, struct qemu_plugin_tb *block)
{
    struct counts *counts = calloc(1, sizeof *counts); /* lives as long as the process */
    size_t instructions = qemu_plugin_tb_n_insns(block);
    (void)id;
    if (!counts) {
        return;
    }
    counts->of[ALL] = instructions;
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        size_t size = qemu_plugin_insn_size(instruction);
#if QEMU_API < 3
        const uint8_t *code = qemu_plugin_insn_data(instruction);
#else
        uint8_t code[16] = {0};
        size = qemu_plugin_insn_data(instruction, code, sizeof code);
#endif
        if (is_arm && size == 4) {
            classify_arm(code, counts);
        } else if (!is_arm) {
            classify_x86(code, size, counts);
        }
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, run, 0, counts);
}

int qemu_plugin_install(plugin_id id, const struct info *info, int argc, char **argv)
{
    (void)argc, (void)argv;
    is_arm = strcmp(info->target_name, "aarch64") == 0;
    if (!is_arm && strcmp(info->target_name, "x86_64") != 0) {
        return 1;
    }
    write_number = is_arm ? 64 : 1; /* of the system call write */
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
