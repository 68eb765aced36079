//! Record batches → partial groups per worker and open day.
