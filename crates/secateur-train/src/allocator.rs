//! Why does one block, freed at the start, make every step of training faster? glibc learns from it.
//!
//! A step frees some megabytes of gradients and activations at once. glibc gives such an end of the heap back
//! to the system and the next step faults it in again, page by page: a quarter of a step of LeNet-300-100.
//! How much it keeps grows with the largest mapped block that was ever freed (`mallopt(3)`,
//! `M_MMAP_THRESHOLD`: up to 32 MiB). A block that nobody touches costs nothing, and other allocators do not
//! mind.

/// Has the allocator keep up to 60 MiB of what a step frees.
pub(crate) fn keep_what_steps_free() {
    drop(std::hint::black_box(vec![0_u8; 30 << 20]));
}
