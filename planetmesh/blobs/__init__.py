"""Content-addressed files: shelves of blobs, each named by its own SHA-256, and the ways in and out.

`shelf` keeps them, `partial` takes one in piece by piece, `cache` forgets what was not used for long,
`frames` packs many small ones into one body. All of it blocks on the disk: call it in threads.
"""
