"""What other programs open: the map as OME-TIFF, OME-Zarr and DICOM."""
