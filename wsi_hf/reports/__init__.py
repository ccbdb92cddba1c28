"""Numbers and maps in, pictures and pages out."""
