"""Generated studies as DICOM, in the styles of four vendors."""
