"""Power loss, simulated: what a writer asked of its files is recorded, and the disks it may leave are built.

`tracer` follows the writer's system calls, `recorder` turns them into `operations`, `disk` builds what a
crash at any moment may leave, `writers` are the recorded processes, `judges` look at each image, `campaign`
does it all for many images.

What may happen at a crash follows the abstract persistence model of Pillai et al., "All File Systems Are
Not Created Equal: On the Complexity of Crafting Crash-Consistent Applications" (OSDI 2014), in its weakest
form. It promises what POSIX does, and no more:

- Data is durable when an fsync or fdatasync of its file has returned that began after the write had; a
  write through a descriptor opened with O_DSYNC or O_SYNC is durable by itself, and orders nothing else.
- Every other write may be on the disk wholly, not at all, or in any of its 512-byte sectors, whatever came
  before or after it. A sector is never mixed; it holds what the page cache held at some moment.
- A file that grew may have its old length, or a new one: what did not arrive reads as zeros, or as stale
  bytes (as on ext4 with data=writeback; ext4's default, XFS and btrfs show zeros).
- A name (created, renamed, removed) is durable when an fsync of its directory has returned. Until then each
  change may be there or not, in any combination; a rename within one directory is never half done. To fsync
  a file does not make its name durable. (Journals do more: on ext4 and XFS an fsync commits all earlier
  changes of names, in order. `Names.JOURNALED` is that kinder model.)

Not simulated: a disk that lies about its flushes, decay of data at rest, and sectors that are half written.
"""
