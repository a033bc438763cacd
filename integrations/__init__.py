"""What the pack knows of other libraries: one file per library, imported only when an object of it shows up."""
