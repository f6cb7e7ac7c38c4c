"""State folders with torn, flipped, emptied and lost files: started and right, or refused with a way out."""
