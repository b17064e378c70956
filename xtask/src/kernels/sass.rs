//! Which instructions did a kernel become? Those that decide about its speed, from nvdisasm's listing.

use std::collections::{BTreeMap, BTreeSet};

/// How the instructions of interest begin: products, asynchronous copies, reads of fragments, transposes, spills.
const FAMILIES: [&str; 7] = ["HMMA", "IMMA", "LDGSTS", "LDSM", "MOVM", "STL", "LDL"];

/// The instructions of interest in each function that has any instructions, whole and without their operands.
pub fn instructions(listing: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut functions = BTreeMap::new();
    let mut current: Option<&str> = None;
    for line in listing.lines() {
        let line = line.trim_start();
        // Not `.sectionflags`, which stands inside.
        if let Some(section) = line.strip_prefix(".section\t") {
            let name = section.strip_prefix(".text.");
            current = name.map(|name| name.split([',', ' ', '\t']).next().unwrap_or(name));
        } else if let (Some(name), Some(opcode)) = (current, opcode(line)) {
            let found = functions.entry(name.to_owned()).or_insert_with(BTreeSet::new);
            if FAMILIES.contains(&opcode.split('.').next().unwrap_or(opcode)) {
                found.insert(opcode.to_owned());
            }
        }
    }
    functions
}

/// The instruction of a line such as `/*00b0*/ @!P0 HMMA.SP.16832.F32 R12, R8, R12, RZ, R6, 0x0 ;`.
fn opcode(line: &str) -> Option<&str> {
    let (_address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let words = rest.split([' ', '\t', ';', '{']).filter(|word| !word.is_empty());
    words.into_iter().find(|word| !word.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_instructions_are_listed_once_for_each_function() {
        let listing = "\
\t.section\t.nv.info.dense,\"\",@\"SHT_CUDA_INFO\"
        /*0000*/ \t.byte\t0x04
//--------------------- .text.dense               --------------------------
\t.section\t.text.dense,\"ax\",@progbits
\t.sectioninfo\t@\"SHI_REGISTERS=20\"
.text.dense:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @!P0 HMMA.16816.F32 R4, R8, R10, R4 ;
        /*0020*/                   IMMA.16832.S8.S8 R4, R8.ROW, R10.COL, R4 ;
        /*0030*/                   LDLX R2 ;
\t.section\t.text.sparse,\"ax\",@progbits
        /*0000*/                   HMMA.SP.16832.F32 R12, R8, R12, RZ, R6, 0x1 ;
        /*0010*/                   HMMA.SP.16832.F32.BF16 R12, R8, R12, RZ, R6, 0x1 ;
        /*0020*/                   HMMA.SP.16832.F32 R12, R8, R12, RZ, R6, 0x0 ;
        /*0030*/              @P1  LDGSTS.E.BYPASS.128 [R3], [R4.64] ;
        /* 0x000ea20000000800 */
\t.section\t.shared
        /*0040*/                   STL [R1], R2 ;
";
        let set = |opcodes: &[&str]| opcodes.iter().map(|&opcode| opcode.to_owned()).collect();
        let dense = set(&["HMMA.16816.F32", "IMMA.16832.S8.S8"]);
        let sparse = set(&["HMMA.SP.16832.F32", "HMMA.SP.16832.F32.BF16", "LDGSTS.E.BYPASS.128"]);
        let wanted = [("dense".into(), dense), ("sparse".into(), sparse)];
        assert_eq!(instructions(listing), wanted.into());
    }
}
